//! VRRP advertisements, version 2 (RFC 3768 §5.1) and 3 (RFC 9568 §5.1), IPv4.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version| Type  | Virtual Rtr ID|   Priority    |IPvX Addr Count|
//! | v3: (rsvd)  Max Adver Interval|          Checksum             |
//! | v2: Auth Type |   Adver Int   |                               |
//! |                       IPvX Address(es)                        |
//! | v2: Authentication Data (8 bytes, always)                     |
//! ```

use super::checksum;
use super::cursor::Cursor;
use crate::decide::filter::Reject;
use crate::units::{Centis, Nanos, Priority};

/// The only type there is (RFC 9568 §5.2.2).
pub const ADVERTISEMENT: u8 = 1;
/// More addresses than this are refused: the kernel's loop needs a bound, RFC 2338 recommended one of 20.
pub const ADDRESSES_MAX: usize = 20;
/// Longest message: eight bytes, the addresses, eight bytes of authentication.
pub const LENGTH_MAX: usize = 8 + 4 * ADDRESSES_MAX + 8;

/// Authentication types of RFC 2338, reserved by RFC 3768 and used to this day.
pub mod auth {
    /// No authentication.
    pub const NONE: u8 = 0;
    /// A password in clear.
    pub const PASSWORD: u8 = 1;
}

/// A well-formed advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// 2 or 3.
    pub version: u8,
    /// Virtual router id as on the wire; 0 matches nobody.
    pub vrid: u8,
    /// The sender's priority; 0 resigns.
    pub priority: Priority,
    /// How many addresses follow.
    pub count: u8,
    /// Time between the sender's adverts.
    pub interval: Nanos,
    /// v2: authentication type, else 0.
    pub auth_type: u8,
    /// v2: the authentication data, else zeros.
    pub auth_data: [u8; 8],
}

/// Reads an advert; `cursor` stands behind the IP header, `length` is the payload's by that header.
///
/// Both forms of the v3 checksum are right: with the pseudo header (RFC 5798, keepalived) and without (RFC 9568
/// §5.2.8).
///
/// # Errors
///
/// The first rule of RFC 9568 §7.1 (RFC 3768 §7.1) that the bytes break.
#[inline(always)]
pub fn parse(mut cursor: Cursor<'_>, length: u16, source: [u8; 4], destination: [u8; 4]) -> Result<Advert, Reject> {
    let fixed = cursor.take::<8>().ok_or(Reject::Length)?;
    let version = fixed[0] >> 4;
    let count = fixed[3];
    let trailer = match version {
        2 => 8,
        3 => 0,
        _ => return Err(Reject::Version),
    };
    if fixed[0] & 0x0f != ADVERTISEMENT {
        return Err(Reject::Type);
    }
    if count == 0 || count as usize > ADDRESSES_MAX {
        return Err(Reject::Addresses);
    }
    if length != 8 + 4 * count as u16 + trailer {
        return Err(Reject::Length);
    }
    let mut sum = checksum::add_quad(0, [fixed[0], fixed[1], fixed[2], fixed[3]]);
    sum = checksum::add_quad(sum, [fixed[4], fixed[5], fixed[6], fixed[7]]);
    for index in 0..ADDRESSES_MAX {
        if index >= count as usize {
            break;
        }
        sum = checksum::add_quad(sum, cursor.take::<4>().ok_or(Reject::Length)?);
    }
    let mut auth_data = [0; 8];
    if version == 2 {
        auth_data = cursor.take::<8>().ok_or(Reject::Length)?;
        sum = checksum::add_quad(sum, [auth_data[0], auth_data[1], auth_data[2], auth_data[3]]);
        sum = checksum::add_quad(sum, [auth_data[4], auth_data[5], auth_data[6], auth_data[7]]);
    }
    let is_right =
        checksum::is_valid(sum) || version == 3 && checksum::is_valid(pseudo(sum, length, source, destination));
    if !is_right {
        return Err(Reject::Checksum);
    }
    let interval = if version == 2 {
        Nanos::from_secs(fixed[5] as u64)
    } else {
        let centis = u16::from_be_bytes([fixed[4] & 0x0f, fixed[5]]);
        Centis::new(centis).ok_or(Reject::Interval)?.nanos()
    };
    Ok(Advert {
        version,
        vrid: fixed[1],
        priority: Priority(fixed[2]),
        count,
        interval,
        auth_type: if version == 2 { fixed[4] } else { auth::NONE },
        auth_data,
    })
}

/// Adds the pseudo header of RFC 5798 §5.2.8.
#[inline(always)]
const fn pseudo(sum: u32, length: u16, source: [u8; 4], destination: [u8; 4]) -> u32 {
    let sum = checksum::add_quad(checksum::add_quad(sum, source), destination);
    sum + super::ipv4::VRRP as u32 + length as u32
}

/// What the checksum of version 3 covers. Version 2 has one form (RFC 3768 §5.3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// A pseudo header too: RFC 5798 §5.2.8, as keepalived, tcpdump and others read it.
    #[default]
    PseudoHeader,
    /// The message alone (RFC 9568 §5.2.8); keepalived's `v3_checksum_as_v2`.
    Rfc9568,
}

/// Whether a message has this form of the checksum, for those who ask for one: [`parse`] takes both.
pub fn has_checksum(form: Checksum, message: &[u8], source: [u8; 4], destination: [u8; 4]) -> bool {
    let sum = checksum::add_bytes(0, message);
    checksum::is_valid(match form {
        Checksum::PseudoHeader => pseudo(sum, message.len() as u16, source, destination),
        Checksum::Rfc9568 => sum,
    })
}

/// What to put into an advert.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// 2 or 3.
    pub version: u8,
    /// Virtual router id.
    pub vrid: u8,
    /// Our priority, or 0 to resign.
    pub priority: Priority,
    /// v2: whole seconds. v3: hundredths of a second.
    pub interval: u16,
    /// The virtual addresses, at most [`ADDRESSES_MAX`].
    pub addresses: &'a [[u8; 4]],
    /// v2: the zero-filled password, if there is one.
    pub password: Option<[u8; 8]>,
    /// v3: what its checksum covers.
    pub checksum: Checksum,
}

/// Writes an advert into `buffer` and returns its length.
pub fn emit(advert: &Outgoing<'_>, source: [u8; 4], destination: [u8; 4], buffer: &mut [u8; LENGTH_MAX]) -> usize {
    let addresses = &advert.addresses[..advert.addresses.len().min(ADDRESSES_MAX)];
    buffer.fill(0);
    buffer[0] = advert.version << 4 | ADVERTISEMENT;
    buffer[1] = advert.vrid;
    buffer[2] = advert.priority.0;
    buffer[3] = addresses.len() as u8;
    let mut length = 8;
    for address in addresses {
        buffer[length..length + 4].copy_from_slice(address);
        length += 4;
    }
    if advert.version == 2 {
        buffer[4] = if advert.password.is_some() { auth::PASSWORD } else { auth::NONE };
        buffer[5] = advert.interval as u8;
        buffer[length..length + 8].copy_from_slice(&advert.password.unwrap_or_default());
        length += 8;
    } else {
        buffer[4..6].copy_from_slice(&(advert.interval & Centis::MAX).to_be_bytes());
    }
    let mut sum = checksum::add_bytes(0, &buffer[..length]);
    if advert.version == 3 && matches!(advert.checksum, Checksum::PseudoHeader) {
        sum = pseudo(sum, length as u16, source, destination);
    }
    buffer[6..8].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_checksum_is_read_and_told_from_the_other() {
        let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        for form in [Checksum::PseudoHeader, Checksum::Rfc9568] {
            let outgoing = Outgoing {
                version: 3,
                vrid: 51,
                priority: Priority(100),
                interval: 100,
                addresses: &[[10, 0, 0, 9]],
                password: None,
                checksum: form,
            };
            let mut buffer = [0; LENGTH_MAX];
            let length = emit(&outgoing, source, destination, &mut buffer);
            let message = &buffer[..length];
            assert!(parse(Cursor::new(message), length as u16, source, destination).is_ok());
            for asked in [Checksum::PseudoHeader, Checksum::Rfc9568] {
                assert_eq!(has_checksum(asked, message, source, destination), asked == form);
            }
        }
    }
}
