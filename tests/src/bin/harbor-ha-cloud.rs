//! `harbor-ha-cloud`: the double of Alibaba Cloud as a program of its own, until somebody ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use harbor_ha_tests::cloud::scenario::Scenario;
use harbor_ha_tests::cloud::{Double, Settings};
use serde_json::json;

#[derive(Parser)]
#[command(
    about = "A test double of Alibaba Cloud: VPC (HaVip, EIP), ECS and the metadata of instances, over plain HTTP"
)]
struct Arguments {
    /// Where it serves; may be there several times. Port 0: any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: Vec<SocketAddr>,
    /// Where tests look at it and break it: `/_double/state`, `/_double/journal`, ...
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// What there is: TOML, or JSON when its name ends so.
    #[arg(long)]
    scenario: PathBuf,
    /// The interface whose gratuitous ARP moves HaVips; needs CAP_NET_RAW.
    #[arg(long)]
    garp: Option<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harbor-ha-cloud: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { listen, admin, scenario, garp } = arguments;
    let double = Double::start(&Settings { scenario: Scenario::read(&scenario)?, listen, admin, garp: garp.clone() })?;
    // One line, for whoever started it: the ports may be any.
    println!("{}", json!({ "listen": double.listen(), "admin": double.admin(), "garp": garp }));
    double.wait();
    Ok(())
}
