//! Sentences that more than one place says: the log at start, `status`, `check`.

use serde_json::Value;

use crate::config::settings::Isolated;

/// What a primary does that its standby no longer confirms, and the price of that choice.
pub const fn isolated(choice: Isolated) -> &'static str {
    match choice {
        Isolated::Hold => {
            "a primary whose standby does not confirm it stops serving: never two primaries, at the price that the loss \
             of the standby alone stops the service"
        }
        Isolated::Serve => {
            "a primary whose standby does not confirm it serves on: the loss of the standby costs nothing, at the price \
             that in a partition BOTH nodes serve"
        }
        Isolated::Witness => {
            "a primary whose standby does not confirm it asks the witness: never two primaries, and the loss of one node \
             costs nothing, at the price that the loss of a node and of the witness together stops the service"
        }
    }
}

/// What of the things that are tracked (`trackers` of a status) has an effect now.
pub fn tracked(trackers: &Value) -> Vec<String> {
    let remark = |tracker: &Value| {
        let name = tracker["name"].as_str().unwrap_or("-");
        let level = match (&tracker["level"], &tracker["level"]["number"]) {
            (Value::String(text), _) => text.clone(),
            (_, number) => number.to_string(),
        };
        let adds = tracker["adds"].as_i64().unwrap_or(0);
        if tracker["stops"] == true {
            return Some(format!("{name} is {level}: FAULT"));
        }
        (adds != 0).then(|| format!("{name} is {level}: {adds:+}"))
    };
    trackers.as_array().into_iter().flatten().filter_map(remark).collect()
}

/// The choice as it stands in the status.
pub fn choice(name: &str) -> Option<Isolated> {
    match name {
        "hold" => Some(Isolated::Hold),
        "serve" => Some(Isolated::Serve),
        "witness" => Some(Isolated::Witness),
        _ => None,
    }
}

/// The name of the choice, as in the configuration and in the status.
pub const fn name(choice: Isolated) -> &'static str {
    match choice {
        Isolated::Hold => "hold",
        Isolated::Serve => "serve",
        Isolated::Witness => "witness",
    }
}

/// An amount of WAL with the unit that reads best.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A length of time with the unit that reads best.
pub fn age(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        60_000_000_000..600_000_000_000 => format!("{} s", ns / 1_000_000_000),
        _ => format!("{} min", ns / 60_000_000_000),
    }
}
