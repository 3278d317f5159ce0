//! One named pipe for every event: `INSTANCE "VI_1" MASTER 100`.
//!
//! It is opened for reading too, so it can be opened, and written to, while there is no reader; what was written waits in
//! the kernel (64 KiB), and after that here. A reader that goes away and comes back goes on where it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Event;
use super::mailbox::{Mailbox, Ring};
use crate::program::{Program, User};

/// Between two attempts to make it: its folder may come later.
const AGAIN: Duration = Duration::from_secs(1);

/// Where it is, and who reads it.
#[derive(Clone, Debug)]
pub struct Fifo {
    /// Made if it is not there, and then removed at the end.
    pub path: PathBuf,
    /// Whose it is when it is made here; mode 0600.
    pub user: Option<User>,
    /// Started once, with the path as its last argument; it ends at the end of the file. It should have no deadline.
    pub program: Option<Program>,
}

/// One line after the other, until the mailbox is closed and empty, and the reader that was started here is done.
pub(super) async fn serve(fifo: Fifo, mailbox: Arc<Mailbox<Ring>>) {
    let mut pipe = Pipe::open_in_time(&fifo).await;
    // Ends the reader when this task is given up.
    let mut reader = JoinSet::new();
    if let Some(program) = fifo.program.clone() {
        let path = fifo.path.display().to_string();
        reader.spawn(async move {
            let ended = program.run(&[path], &[]).await;
            tracing::info!(script = %program, "the FIFO's reader: {ended}");
        });
    }
    while let Some(taken) = mailbox.next().await {
        let line = line(&taken.event);
        while let Err(error) = pipe.write(&fifo.path, &line).await {
            tracing::warn!(path = %fifo.path.display(), %error, "the FIFO cannot be written to; it is opened anew");
            let made = pipe.made;
            pipe = Pipe::open_in_time(&fifo).await;
            pipe.made |= made;
        }
    }
    let made = pipe.made;
    // With us the last writer is gone, and a reader comes to the end of the file.
    drop(pipe);
    while reader.join_next().await.is_some() {}
    if made {
        let _gone_already = fs::remove_file(&fifo.path);
    }
}

/// As keepalived has it. A name cannot hold a quote or a line's end: the configuration sees to it.
pub(super) fn line(event: &Event) -> String {
    let Event { kind, name, state, priority } = event;
    format!("{} \"{name}\" {state} {priority}\n", kind.word())
}

struct Pipe {
    sender: pipe::Sender,
    identity: (u64, u64),
    made: bool,
}

impl Pipe {
    async fn open_in_time(fifo: &Fifo) -> Self {
        let mut told = false;
        loop {
            match Self::open(fifo) {
                Ok(pipe) => return pipe,
                Err(error) if !told => {
                    tracing::error!(path = %fifo.path.display(), %error, "no FIFO; tried again each second");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    fn open(fifo: &Fifo) -> io::Result<Self> {
        let made = match mkfifo(&fifo.path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) => true,
            Err(nix::Error::EEXIST) => false,
            Err(error) => return Err(error.into()),
        };
        // Not over a link: in a folder that others write to, that could be any file.
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(&fifo.path)?;
        let meta = file.metadata()?;
        if !meta.file_type().is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something else than a FIFO; remove it"));
        }
        if let Some(user) = fifo.user.as_ref().filter(|_| made) {
            let (uid, gid) = user.ids();
            fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        Ok(Self { sender: pipe::Sender::from_file(file)?, identity: (meta.dev(), meta.ino()), made })
    }

    /// Whole or not at all: a line is shorter than what the kernel writes at once.
    async fn write(&self, path: &Path, line: &str) -> io::Result<()> {
        loop {
            let now = fs::symlink_metadata(path)?;
            if (now.dev(), now.ino()) != self.identity {
                return Err(io::Error::new(io::ErrorKind::NotFound, "somebody has replaced it"));
            }
            match self.sender.try_write(line.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.sender.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
