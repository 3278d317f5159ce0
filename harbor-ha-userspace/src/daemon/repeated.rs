//! A fault that goes on is said once, and then now and then: an advert that cannot be sent cannot be sent a hundred
//! times a second.

use std::time::Duration;

use tokio::time::Instant;

/// One kind of fault.
#[derive(Debug)]
pub(super) struct Repeated {
    every: Duration,
    next: Option<Instant>,
}

impl Repeated {
    /// A fault that is said once in `every`, for as long as it goes on.
    pub const fn new(every: Duration) -> Self {
        Self { every, next: None }
    }

    /// It happened: whether to say so.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next.is_none_or(|next| now >= next);
        if due {
            self.next = Some(now + self.every);
        }
        due
    }

    /// It did not happen: the next one is news.
    pub const fn over(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_goes_on_is_said_once_and_again_after_it_was_over() {
        let mut fault = Repeated::new(Duration::from_secs(3600));
        assert_eq!([fault.is_due(), fault.is_due()], [true, false]);
        fault.over();
        assert!(fault.is_due());
        let mut fault = Repeated::new(Duration::ZERO);
        assert_eq!([fault.is_due(), fault.is_due()], [true, true], "after its while");
    }
}
