//! The plainest copy over a network: read a file, send it, receive it, write a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

/// As much as a resync moves at a time.
const PIECE: usize = 256 << 10;

/// Bytes per second of a copy of so many bytes, over loopback.
pub fn file_to_file(bytes: u64) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut file = File::create(&from)?;
    let piece: Vec<u8> = (0..PIECE).map(|at| ((at * 31) >> 3) as u8).collect();
    for _ in 0..bytes / PIECE as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let begun = Instant::now();
    let moved = std::thread::scope(|scope| -> anyhow::Result<u64> {
        let sending = scope.spawn(move || -> io::Result<u64> { pump(File::open(from)?, TcpStream::connect(address)?) });
        let (socket, _) = listener.accept()?;
        let received = pump(socket, File::create(to)?)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok(received)
    })?;
    Ok(moved as f64 / begun.elapsed().as_secs_f64())
}

/// Through memory of this process, as a resync has to, which looks at what it moves.
fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<u64> {
    let (mut buffer, mut moved) = (vec![0; PIECE], 0);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(moved);
        }
        to.write_all(&buffer[..count])?;
        moved += count as u64;
    }
}
