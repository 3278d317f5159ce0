//! What somebody between client and service can do: nothing. Here it is Alibaba's own SDK that has signed.

use harbor_ha_tests::cloud::scenario::ids;
use harbor_ha_tests::cloud::tamper::{Proxy, Tamper};
use serde_json::json;

use super::double;
use super::sdk::{self, Sdk};

#[test]
fn a_request_of_the_sdk_is_refused_when_one_header_or_one_byte_was_changed_or_it_comes_twice() {
    if !sdk::there("a_request_of_the_sdk_is_refused_when_one_header_or_one_byte_was_changed_or_it_comes_twice") {
        return;
    }
    let double = double();
    let proxy = Proxy::before(double.listen()[0]).unwrap();
    let mut sdk = Sdk::start(proxy.address());
    let mut through = |how: Tamper| {
        proxy.tamper(how);
        sdk.vpc("DescribeHaVips", json!({ "RegionId": ids::REGION })).map(drop).map_err(|refused| refused.code)
    };
    through(Tamper::Nothing).unwrap();
    let refused = |code: &str| Err(code.to_owned());
    for name in ["x-acs-date", "x-acs-signature-nonce", "user-agent", "host", "authorization"] {
        assert_eq!(through(Tamper::Header(name)), refused("SignatureDoesNotMatch"), "{name}");
    }
    assert_eq!(through(Tamper::Header("x-acs-content-sha256")), refused("InvalidContentSha256"));
    assert_eq!(through(Tamper::Without("x-acs-signature-nonce")), refused("IncompleteSignature"));
    assert_eq!(through(Tamper::Without("authorization")), refused("MissingAuthorization"));
    let query = format!("RegionId={}", ids::REGION);
    for at in 0..query.len() {
        assert_eq!(through(Tamper::QueryByte(at)), refused("SignatureDoesNotMatch"), "byte {at}");
    }
    assert_eq!(through(Tamper::MoreQuery("&PageSize=50")), refused("SignatureDoesNotMatch"));
    assert_eq!(through(Tamper::Replay), refused("SignatureNonceUsed"));
    through(Tamper::Nothing).unwrap();
}
