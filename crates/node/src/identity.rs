//! Who this node is, in a file of its own: its id, its cluster, the config store it agreed upon, and the count of its
//! starts, which must be durable before anything else is done (M11).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dyad_units::{ClusterId, NodeId, StoreId};

/// The file in the data directory.
const FILE: &str = "identity";
/// Its first line.
const FORMAT: &str = "dyad identity, format 1";

/// What the file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) store: StoreId,
    /// Starts of this node so far.
    pub(crate) starts: u64,
}

impl Identity {
    /// Reads the file; none: there is none.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(dir.join(FILE)) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| {
                let what = format!("{} cannot be used: it is damaged, or of newer software", dir.join(FILE).display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
        let identity = Self {
            node: value("node")?.parse().ok()?,
            cluster: value("cluster")?.parse().ok()?,
            store: value("store")?.parse().ok()?,
            starts: value("starts")?.parse().ok()?,
        };
        lines.next().is_none().then_some(identity)
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let Self { node, cluster, store, starts } = self;
        let text = format!("{FORMAT}\nnode {node}\ncluster {cluster}\nstore {store}\nstarts {starts}\n");
        let new = dir.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), None);
        let identity = Identity {
            node: NodeId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            store: StoreId::from_bytes([3; 16]),
            starts: 7,
        };
        identity.write(dir.path()).unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), Some(identity));
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        for len in 0..text.len() - 1 {
            fs::write(dir.path().join(FILE), &text[..len]).unwrap();
            let read = Identity::read(dir.path());
            assert!(read.is_err(), "cut to {len}: {read:?}");
        }
    }
}
