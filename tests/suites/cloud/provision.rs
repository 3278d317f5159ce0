//! `harbor-ha havip` as an operator runs it: killed at each step and run again, with answers lost, with no more rights
//! than it asks for, and without a secret in anything that it says.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use harbor_ha::fault::OF_PROVISION;
use harbor_ha_tests::cloud::Double;
use harbor_ha_tests::cloud::fault::Fault;
use harbor_ha_tests::cloud::journal::Entry;
use harbor_ha_tests::cloud::keys::MARK;
use harbor_ha_tests::cloud::scenario::{Scenario, ids, no_cards, pair};
use harbor_ha_tests::lab::node::daemon_program;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{A, B, double_of};

/// What changes nothing.
fn looks(entry: &&Entry) -> bool {
    entry.service == "metadata" || entry.action.starts_with("Describe")
}

/// Two instances, an EIP, and no HaVip yet; changes take a moment.
fn bare() -> Scenario {
    let mut scenario = pair(no_cards());
    scenario.havip.clear();
    scenario.eip.values_mut().for_each(|eip| eip.bound = None);
    scenario.transition_ms = Some(300);
    scenario
}

/// An operator's node, with its configuration.
struct Operator {
    folder: TempDir,
    double: Double,
}

impl Operator {
    fn of(double: Double, credentials: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (home, at) = (folder.path().display(), double.listen()[0]);
        let text = format!(
            "[node]\ninstance = \"double\"\ninterface = \"eth0\"\naddress = \"10.77.0.1\"\npeer = \"10.77.0.2\"\n\
             vips = [\"10.77.0.100/32\"]\nstate_dir = \"{home}/state\"\nruntime_dir = \"{home}/run\"\nbpffs = \"{home}/bpf\"\n\
             [vrrp]\npriority = 100\nvrid = 51\n[pulse]\nenabled = false\n\
             [cloud]\nhavip = \"auto\"\neip = \"{eip}\"\npeer_instance = \"{B}\"\ncredentials = \"{credentials}\"\n\
             vpc_endpoint = \"http://{at}\"\necs_endpoint = \"http://{at}\"\nmetadata_endpoint = \"http://{at}\"\n",
            eip = ids::EIP,
        );
        std::fs::write(folder.path().join("harbor-ha.toml"), text).unwrap();
        Self { folder, double }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("harbor-ha.toml")
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(daemon_program().expect("the daemon is built"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALIBABA_CLOUD_")) {
            command.env_remove(name);
        }
        command.arg("havip").args(words).arg("--config").arg(self.config());
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Runs it, and expects that it ends well; what it said.
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words, &[]);
        let said = told(&output);
        assert!(output.status.success(), "{words:?}: {:?}: {said}", output.status);
        said
    }

    /// One HaVip with both instances and the EIP, and nothing twice.
    fn is_provisioned(&self, what: &str) {
        let state = self.double.remote().state().unwrap();
        let havips = state["havips"].as_object().unwrap();
        assert_eq!(havips.len(), 1, "{what}: {state}");
        let (id, havip) = havips.iter().next().unwrap();
        let mut members: Vec<&str> = havip["members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        members.sort_unstable();
        assert_eq!((&havip["status"], &havip["address"]), (&json!("InUse"), &json!("10.77.0.100")), "{what}");
        assert_eq!(members, [A, B], "{what}");
        assert_eq!(
            (&state["eips"][ids::EIP]["bound"], &state["eips"][ids::FREE_EIP]["bound"]),
            (&json!(id), &Value::Null)
        );
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Each on a thread, as each mostly waits.
fn each<T: Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        let threads: Vec<_> = cases.iter().map(|case| scope.spawn(move || test(case))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    });
}

#[test]
fn provision_killed_at_each_step_and_run_again_ends_in_the_same_state() {
    each(&OF_PROVISION, |point| {
        let operator = Operator::of(double_of(bare()), "ram-role");
        let killed = operator.run(&["provision"], &[("HARBOR_HA_FAULT_POINT", point)]);
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", told(&killed));
        operator.done(&["provision"]);
        operator.is_provisioned(point);
        // A third one has nothing to do.
        let before = operator.double.remote().journal().unwrap().len();
        operator.done(&["provision"]);
        let journal = operator.double.remote().journal().unwrap();
        assert!(journal[before..].iter().all(|entry| looks(&entry)), "{point}: {:?}", &journal[before..]);
    });
}

#[test]
fn provision_whose_answers_are_lost_one_by_one_does_nothing_twice() {
    let actions = ["CreateHaVip", "AssociateHaVip", "AssociateEipAddress"];
    let kinds =
        [json!("truncated"), json!("reset"), json!({ "error": { "status": 503, "code": "ServiceUnavailable" } })];
    let cases: Vec<_> = actions.iter().flat_map(|action| kinds.iter().map(move |kind| (action, kind))).collect();
    each(&cases, |(action, kind)| {
        let operator = Operator::of(double_of(bare()), "ram-role");
        let fault = json!({ "action": action, "times": 1, "after": true, "kind": kind });
        operator.double.remote().fault(&serde_json::from_value::<Fault>(fault).unwrap()).unwrap();
        operator.done(&["provision"]);
        operator.is_provisioned(&format!("{action} {kind}"));
    });
}

#[test]
fn what_was_deleted_in_the_console_is_made_anew() {
    let operator = Operator::of(double_of(bare()), "ram-role");
    let havip = || {
        let state = operator.double.remote().state().unwrap();
        state["havips"].as_object().unwrap().keys().next().cloned().unwrap()
    };
    operator.done(&["provision"]);
    let first = havip();
    operator.double.remote().order("delete", &json!({ "id": first })).unwrap();
    operator.done(&["provision"]);
    operator.is_provisioned("a second one");
    assert_ne!(havip(), first);
}

#[test]
fn an_instance_of_neither_node_that_is_bound_is_told_and_left_alone() {
    let mut scenario = pair(no_cards());
    scenario.transition_ms = Some(300);
    let third = "i-double-c";
    let mut instance = scenario.instance[A].clone();
    instance.address = "10.77.0.3".parse().unwrap();
    instance.mac = "02:77:00:00:00:0c".to_owned();
    scenario.instance.insert(third.to_owned(), instance);
    scenario.havip.values_mut().for_each(|havip| havip.members.push(third.to_owned()));
    let operator = Operator::of(double_of(scenario), "ram-role");
    for words in [&["provision", "--dry-run"][..], &["provision"]] {
        let said = operator.done(words);
        assert!(said.contains(&format!("warning: {third} is bound too")), "{words:?}: {said}");
        assert!(said.contains("nothing to do"), "{words:?}: {said}");
    }
    assert!(operator.double.remote().journal().unwrap().iter().all(|entry| looks(&entry)));
    operator.done(&["unbind", third]);
    let said = operator.done(&["provision"]);
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn an_address_that_somebody_else_has_is_told() {
    let mut scenario = bare();
    let other = scenario.instance.values_mut().find(|it| it.address.to_string() != "10.77.0.1").unwrap();
    other.address = "10.77.0.100".parse().unwrap();
    let operator = Operator::of(double_of(scenario), "ram-role");
    let output = operator.run(&["provision"], &[]);
    let said = told(&output);
    assert!(!output.status.success() && said.contains("InvalidIPAddress.AlreadyUsed"), "{said}");
    assert_eq!(operator.double.remote().state().unwrap()["havips"], json!({}));
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let operator = Operator::of(double_of(bare()), "ram-role");
    let said = operator.done(&["provision", "--dry-run"]);
    for part in ["10.77.0.100", A, B, ids::EIP] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(operator.double.remote().journal().unwrap().iter().all(|entry| looks(&entry)));
}

#[test]
fn the_policy_that_ours_prints_is_enough_for_all_that_it_does_and_for_no_more() {
    let operator = Operator::of(double_of(bare()), "ram-role");
    let printed = operator.run(&["policy"], &[]);
    let policy: Value = serde_json::from_slice(&printed.stdout).unwrap();
    operator.double.remote().order("policy", &json!({ "role": policy })).unwrap();
    operator.done(&["provision"]);
    operator.is_provisioned("with no more rights than that");
    let refused = |journal: &[Entry]| journal.iter().filter(|entry| entry.outcome == "Forbidden.RAM").count();
    assert_eq!(refused(&operator.double.remote().journal().unwrap()), 0);
    // Without the statement that lets it bind, it is told what it lacks.
    let mut less = policy.clone();
    let statements = less["Statement"].as_array_mut().unwrap();
    let before = statements.len();
    statements.retain(|statement| !statement.to_string().contains("vpc:AssociateHaVip"));
    assert_eq!(statements.len(), before - 1);
    let operator = Operator::of(double_of(bare()), "ram-role");
    operator.double.remote().order("policy", &json!({ "role": less })).unwrap();
    let output = operator.run(&["provision"], &[]);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("AssociateHaVip") && said.contains("Forbidden.RAM"), "{said}");
}

#[test]
fn no_command_says_a_secret_however_it_ends() {
    let operator = Operator::of(double_of(bare()), "env");
    let (good, wrong) = (format!("{MARK}-of-owner"), format!("{MARK}-wrong"));
    let token = format!("CAIS-{MARK}/+==");
    let owner = ("ALIBABA_CLOUD_ACCESS_KEY_ID", ids::KEY);
    let secret = |text| ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", text);
    let environments = [
        vec![owner, secret(good.as_str())],
        vec![owner, secret(wrong.as_str())],
        // The service repeats it in its refusal.
        vec![owner, secret(wrong.as_str()), ("ALIBABA_CLOUD_SECURITY_TOKEN", token.as_str())],
        vec![("ALIBABA_CLOUD_ACCESS_KEY_ID", wrong.as_str()), secret(good.as_str())],
        vec![owner],
    ];
    let commands: [&[&str]; 6] =
        [&["show"], &["verify"], &["provision", "--dry-run"], &["bind", "peer"], &["bind-eip"], &["policy"]];
    let cases: Vec<_> =
        environments.iter().flat_map(|environment| commands.map(|command| (environment, command))).collect();
    let refusals = std::sync::atomic::AtomicUsize::new(0);
    each(&cases, |(environment, command)| {
        let told_all = [environment.as_slice(), &[("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")]].concat();
        let said = told(&operator.run(command, &told_all));
        if said.contains("SignatureDoesNotMatch") {
            refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        assert!(!said.contains(MARK), "{command:?}: {said}");
    });
    assert!(refusals.into_inner() > 0, "none was refused, so nothing was repeated to it");
    // A file that others may read is refused, and not repeated.
    let file = operator.folder.path().join("keys");
    std::fs::write(&file, format!("access_key_id = x\naccess_key_secret = {good}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let text = std::fs::read_to_string(operator.config()).unwrap();
    let text = text.replace("credentials = \"env\"", &format!("credentials = \"file\"\ncredentials_file = {file:?}"));
    std::fs::write(operator.config(), text).unwrap();
    let said = told(&operator.run(&["show"], &[]));
    assert!(said.contains("chmod 600") && !said.contains(MARK), "{said}");
}
