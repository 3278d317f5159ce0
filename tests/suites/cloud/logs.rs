//! Everything that is logged in this process, at every level: the daemon's lines and those of its libraries.

use std::io;
use std::sync::Mutex;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().expect("no holder panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on; once is enough.
pub fn capture() {
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(|| Lines)
        .try_init();
}

/// Something else that was said.
pub fn add(text: &str) {
    LINES.lock().expect("no holder panics").extend_from_slice(text.as_bytes());
}

/// What was logged so far.
pub fn all() -> String {
    String::from_utf8_lossy(&LINES.lock().expect("no holder panics")).into_owned()
}
