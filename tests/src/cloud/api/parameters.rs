//! The parameters of a call: flat names, with lists written as `Name.1`.

use std::net::Ipv4Addr;

use super::super::error::{ApiError, invalid, missing};

/// All of them, in order of their names.
#[derive(Clone, Debug)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// # Errors
    /// A name is there twice.
    pub fn new(all: Vec<(String, String)>) -> Result<Self, ApiError> {
        match all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(invalid(&pair[0].0, "it is there twice")),
            None => Ok(Self(all)),
        }
    }

    /// All of them.
    pub fn all(&self) -> &Vec<(String, String)> {
        &self.0
    }

    /// One that may be left out; an empty one counts as left out.
    pub fn optional(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// # Errors
    /// It is not there.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.optional(name).ok_or_else(|| missing(name))
    }

    /// `Name.1`, `Name.2`, ... until there is no more.
    pub fn list(&self, name: &str) -> Vec<&str> {
        (1..).map_while(|number| self.optional(&format!("{name}.{number}"))).collect()
    }

    /// `True` as Python writes it, `true` as JavaScript does.
    ///
    /// # Errors
    /// It is neither that nor false.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.optional(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name, "neither true nor false")),
        }
    }

    /// # Errors
    /// It is no address.
    pub fn address(&self, name: &str) -> Result<Option<Ipv4Addr>, ApiError> {
        let parse = |text: &str| text.parse().map_err(|_| invalid(name, "no IPv4 address"));
        self.optional(name).map(parse).transpose()
    }

    /// Number and size of the page that is asked for.
    ///
    /// # Errors
    /// It is no number, or too many are asked for at once.
    pub fn page(&self, most: usize) -> Result<Page, ApiError> {
        let number = |name: &str, usual: usize, most: usize| match self.optional(name).map(str::parse) {
            None => Ok(usual),
            Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
            Some(_) => Err(invalid(name, &format!("no number between 1 and {most}"))),
        };
        Ok(Page { number: number("PageNumber", 1, usize::MAX)?, size: number("PageSize", 10, most)? })
    }

    /// As RAM names what a parameter names: `havip/ID`.
    pub fn named(&self, kind: &str, name: &str) -> String {
        format!("{kind}/{}", self.optional(name).unwrap_or("*"))
    }
}

/// Which part of a long answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: usize,
    /// So many on each.
    pub size: usize,
}

impl Page {
    /// Those on this page.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        let before = (self.number - 1).saturating_mul(self.size);
        all.into_iter().skip(before).take(self.size).collect()
    }
}
