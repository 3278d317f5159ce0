//! One TOML value becomes one unit, or a sentence that holds the value to write instead.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::settings::Vip;
use super::suggest;

/// What a reader of one value answers; the error is the text of a [`super::Problem`].
pub(super) type Reading<T> = Result<T, String>;

/// A whole number within `range`.
pub(super) fn integer<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Reading<T>
where
    T: Copy + Into<u64> + TryFrom<u64>,
{
    let (low, high) = ((*range.start()).into(), (*range.end()).into());
    let number = match value {
        DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix())
            .map_err(|_| format!("{digits} is outside {low} to {high}"))?,
        DeValue::String(text) => {
            return Err(match text.trim().parse::<u64>() {
                Ok(number) => format!("{text:?} is a string; use {number}, without quotes"),
                Err(_) => format!("{text:?} is not a number; use a whole number from {low} to {high}"),
            });
        }
        DeValue::Float(digits) => return Err(format!("{digits} is not whole; use a number from {low} to {high}")),
        other => return Err(wrong_type(other, &format!("a whole number from {low} to {high}"))),
    };
    if number < i128::from(low) {
        return Err(format!("{number} is outside {low} to {high}; use {low} or more"));
    }
    let outside = || format!("{number} is outside {low} to {high}; use {high} or less");
    let number = u64::try_from(number).ok().filter(|number| *number <= high).ok_or_else(outside)?;
    T::try_from(number).map_err(|_| outside())
}

/// A whole number within `range`, which may be below zero.
pub(super) fn signed(value: &DeValue<'_>, range: RangeInclusive<i32>) -> Reading<i32> {
    let (low, high) = (*range.start(), *range.end());
    let DeValue::Integer(digits) = value else {
        return Err(match value {
            DeValue::String(text) if text.trim().parse::<i32>().is_ok() => {
                format!("{text:?} is a string; use {}, without quotes", text.trim())
            }
            other => wrong_type(other, &format!("a whole number from {low} to {high}")),
        });
    };
    let outside = || format!("{digits} is outside {low} to {high}");
    let number = i128::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| outside())?;
    let number = i32::try_from(number).map_err(|_| outside())?;
    if number < low {
        return Err(format!("{}; use {low} or more", outside()));
    }
    if number > high {
        return Err(format!("{}; use {high} or less", outside()));
    }
    Ok(number)
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Reading<bool> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        DeValue::String(text) => Err(match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => format!("{text:?} is a string; use true, without quotes"),
            "false" | "no" | "off" => format!("{text:?} is a string; use false, without quotes"),
            _ => format!("{text:?} is not a truth value; use true or false"),
        }),
        other => Err(wrong_type(other, "true or false")),
    }
}

/// A string.
pub(super) fn string<'a>(value: &'a DeValue<'_>) -> Reading<&'a str> {
    match value {
        DeValue::String(text) => Ok(text),
        DeValue::Integer(number) => Err(format!("{number} is an integer; use \"{number}\"")),
        other => Err(wrong_type(other, "a string")),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Reading<T> {
    let text = string(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let names = || words.iter().map(|(word, _)| *word);
    match suggest::closest(&text.to_ascii_lowercase(), names()) {
        Some(word) => Err(format!("{text:?} is unknown; did you mean \"{word}\"?")),
        None => Err(format!("{text:?} is unknown; use {}", either(names().map(|word| format!("{word:?}"))))),
    }
}

/// Text that ends up on a command line or in a connection string: one line, nothing invisible.
pub(super) fn line(value: &DeValue<'_>) -> Reading<String> {
    let text = string(value)?;
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{text:?} holds the control character {c:?}; remove it")),
        None => Ok(text.to_owned()),
    }
}

/// A path that does not depend on where the daemon was started.
pub(super) fn path(value: &DeValue<'_>) -> Reading<PathBuf> {
    let text = line(value)?;
    match text.as_bytes() {
        [] => Err("is empty; use an absolute path".into()),
        [b'/', ..] => Ok(text.into()),
        [b'~', ..] => Err(format!("{text:?} would need a shell; write the home directory out, from `/` on")),
        _ => Err(format!("{text:?} is relative and would depend on the working directory; begin it with `/`")),
    }
}

/// The address of a host, without a prefix length.
pub(super) fn host_address(value: &DeValue<'_>) -> Reading<Ipv4Addr> {
    let text = string(value)?;
    let bare = text.split_once('/').map_or(text, |(address, _)| address);
    let address = address(bare)?;
    if bare == text { Ok(address) } else { Err(format!("a prefix length has no place here; use \"{bare}\"")) }
}

/// A virtual address with its prefix length.
pub(super) fn vip(value: &DeValue<'_>) -> Reading<Vip> {
    let text = string(value)?;
    let Some((bare, prefix)) = text.split_once('/') else {
        address(text)?;
        return Err(format!("the prefix length is missing; use \"{text}/32\" instead of \"{text}\""));
    };
    let address = address(bare)?;
    let prefix = match prefix.parse::<u8>() {
        Ok(number @ 1..=32) if number.to_string() == prefix => number,
        _ => return Err(format!("\"/{prefix}\" is outside /1 to /32; use \"{address}/32\" instead of {text:?}")),
    };
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let within = address.to_bits() & hosts;
    if prefix < 31 && (within == 0 || within == hosts) {
        let kind = if within == 0 { "network" } else { "broadcast" };
        return Err(format!("{text:?} is the {kind} address of its subnet; use the address of a host"));
    }
    Ok(Vip { address, prefix })
}

/// An IPv4 address that one host can have and another can reach.
fn address(text: &str) -> Reading<Ipv4Addr> {
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Err(match text.parse::<std::net::Ipv6Addr>() {
            Ok(_) => format!("{text:?} is an IPv6 address; harbor-ha serves IPv4 only"),
            Err(_) => format!("{text:?} is not an IPv4 address; use four numbers, like \"10.0.0.5\""),
        });
    };
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback() {
        return Err(format!("{text:?} is not an address that the other node could reach; use a unicast address"));
    }
    Ok(address)
}

/// The units of time, smallest first, in microseconds.
const TIME: [(&str, u128); 5] = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000)];

/// The units of size, smallest first.
const SIZE: [(&str, u128); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A length of time within `range`, in whole microseconds: `"20ms"`.
pub(super) fn duration(value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Reading<Duration> {
    let micros = quantity(value, &TIME, range.start().as_micros()..=range.end().as_micros())?;
    Ok(Duration::from_micros(u64::try_from(micros).expect("the ranges end long before 584,000 years")))
}

/// A number of bytes within `range`: `"16MiB"`.
pub(super) fn size(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Reading<u64> {
    let bytes = quantity(value, &SIZE, (*range.start()).into()..=(*range.end()).into())?;
    Ok(u64::try_from(bytes).expect("the range ends within u64"))
}

/// A length of time the way [`duration`] reads it, in the largest unit that fits evenly.
pub(super) fn show(length: Duration) -> String {
    show_quantity(length.as_micros(), &TIME)
}

fn show_quantity(number: u128, units: &[(&str, u128)]) -> String {
    let even = |(_, size): &&(&str, u128)| number != 0 && number.is_multiple_of(*size);
    // Zero has no natural unit; seconds and KiB read best, and `0s` is what the example writes.
    let (unit, size) = units.iter().rev().find(even).unwrap_or(if units[0].0 == "us" { &units[2] } else { &units[0] });
    format!("{}{unit}", number / size)
}

fn quantity(value: &DeValue<'_>, units: &[(&str, u128)], range: RangeInclusive<u128>) -> Reading<u128> {
    let show = |number| show_quantity(number, units);
    let example = || format!("a number and a unit ({})", either(units.iter().map(|(unit, _)| (*unit).to_owned())));
    let text = match value {
        DeValue::String(text) => text.trim(),
        DeValue::Integer(number) => {
            let number = number.as_str().parse::<u128>().map_err(|_| format!("{number} is not {}", example()))?;
            let fits = units.iter().filter(|(_, size)| number.checked_mul(*size).is_some_and(|n| range.contains(&n)));
            let proposals: Vec<_> = fits.map(|(unit, _)| format!("\"{number}{unit}\"")).collect();
            return Err(match proposals.as_slice() {
                [] => format!(
                    "{number} has no unit; use {}, from {} to {}",
                    example(),
                    show(*range.start()),
                    show(*range.end())
                ),
                _ => format!("{number} has no unit; use {}", either(proposals)),
            });
        }
        other => return Err(wrong_type(other, &example())),
    };
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let not_a_quantity = || format!("{text:?} is not {}", example());
    let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) else {
        let number = digits.parse::<u64>().map_err(|_| not_a_quantity())?;
        let first = unit.trim().chars().next().map(|c| c.to_ascii_lowercase());
        let alike = units
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| name.starts_with(|c: char| Some(c.to_ascii_lowercase()) == first));
        let meant = alike.min_by_key(|name| suggest::distance(unit.trim(), name));
        return Err(match (unit, meant) {
            ("", _) => format!("{text:?} has no unit; use {}", example()),
            ("m", _) => format!("{text:?} is ambiguous; use \"{number}min\" or \"{number}ms\""),
            (_, Some(meant)) => format!("{unit:?} is not a unit; use \"{number}{meant}\""),
            _ => not_a_quantity(),
        });
    };
    let Ok(number) = digits.parse::<u128>() else {
        let number = digits.parse::<f64>().map_err(|_| not_a_quantity())?;
        return Err(format!("{text:?} is not a whole number; use {:?}", show((number * *size as f64).round() as u128)));
    };
    let outside = |use_this: u128, side: &str| {
        let (low, high) = (show(*range.start()), show(*range.end()));
        format!("{text:?} is outside {low} to {high}; use {:?} or {side}", show(use_this))
    };
    match number.checked_mul(*size) {
        Some(number) if range.contains(&number) => Ok(number),
        Some(number) if number < *range.start() => Err(outside(*range.start(), "more")),
        _ => Err(outside(*range.end(), "less")),
    }
}

/// "a, b or c".
pub(super) fn either(words: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<String> = words.into_iter().collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
        None => String::new(),
    }
}

pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &str) -> String {
    let kind = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("is {kind}; use {wanted}")
}
