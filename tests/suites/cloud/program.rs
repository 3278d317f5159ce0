//! The double as a program, as somebody starts it who only has it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harbor_ha_tests::cloud::remote::Remote;
use harbor_ha_tests::cloud::scenario::{Scenario, ids};
use serde_json::Value;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_says_where_it_serves_and_has_what_its_file_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/cloud-pair.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harbor-ha-cloud"));
    let mut program = Program(command.arg("--scenario").arg(&file).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said["listen"].as_array().unwrap().len(), 1, "{said}");
    let remote = Remote { admin: said["admin"].as_str().unwrap().parse().unwrap(), netns: None };
    let state = remote.state().unwrap();
    assert_eq!(
        (&state["havips"][ids::HAVIP]["status"], &state["eips"][ids::EIP]["bound"]),
        (&"InUse".into(), &ids::HAVIP.into())
    );
}

#[test]
fn a_scenario_that_names_what_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.json");
    let text = r#"{ "region": "r", "havip": { "h": { "address": "10.0.0.1", "vswitch": "vsw-none" } } }"#;
    std::fs::write(&file, text).unwrap();
    let why = format!("{:#}", Scenario::read(&file).unwrap_err());
    assert!(why.contains("havip h: no vswitch `vsw-none`"), "{why}");
    std::fs::write(&file, r#"{ "region": "r", "colour": "red" }"#).unwrap();
    assert!(format!("{:#}", Scenario::read(&file).unwrap_err()).contains("colour"));
}
