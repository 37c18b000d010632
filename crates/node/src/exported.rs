//! Which detached images this node exports, in a file of its own: what an administrator wants holds over restarts, and is no
//! affair of the cluster's records.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dyad_units::{ImageId, VolumeId};

/// The file in the data directory.
const FILE: &str = "exports";
/// Its first line.
const FORMAT: &str = "dyad exports, format 1";

/// What the file says, in the order of asking.
pub(crate) type Exported = Vec<(VolumeId, ImageId)>;

/// Reads the file; nothing is exported without it.
pub(crate) fn read(dir: &Path) -> io::Result<Exported> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => parse(&text).ok_or_else(|| {
            let what = format!("{} cannot be used: it is damaged, or of newer software", dir.join(FILE).display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Exported::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<Exported> {
    // Whole lines only: a file that was cut says less than it did.
    let mut lines = text.strip_suffix("\nend\n")?.lines();
    if lines.next()? != FORMAT {
        return None;
    }
    lines
        .map(|line| {
            let (volume, image) = line.split_once(' ')?;
            Some((volume.parse().ok()?, image.parse().ok()?))
        })
        .collect()
}

/// Writes the file, durably.
pub(crate) fn write(dir: &Path, exported: &Exported) -> io::Result<()> {
    let lines: String = exported.iter().map(|(volume, image)| format!("{volume} {image}\n")).collect();
    let new = dir.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(format!("{FORMAT}\n{lines}end\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Exported::new());
        let pair = |byte| (VolumeId::from_bytes([byte; 16]), ImageId::from_bytes([byte + 1; 16]));
        for exported in [vec![], vec![pair(1)], vec![pair(3), pair(1)]] {
            write(dir.path(), &exported).unwrap();
            assert_eq!(read(dir.path()).unwrap(), exported);
        }
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        for len in 0..text.len() {
            fs::write(dir.path().join(FILE), &text[..len]).unwrap();
            let read = read(dir.path());
            assert!(read.is_err(), "cut to {len}: {read:?}");
        }
    }
}
