//! The store in a file.

use std::sync::Arc;

use dyad_cluster::Store;
use dyad_store::LocalStore;
use dyad_units::StoreId;

use super::suite::{Far, Stage, run_near};

struct Local {
    store: Arc<LocalStore>,
    _dir: tempfile::TempDir,
}

impl Local {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = LocalStore::open(&dir.path().join("config.redb"), || StoreId::from_bytes([9; 16])).unwrap();
        Self { store: Arc::new(store), _dir: dir }
    }
}

impl Stage for Local {
    fn client(&self) -> Arc<dyn Store> {
        let store: Arc<LocalStore> = Arc::clone(&self.store);
        store
    }

    fn far(&self) -> Option<Far> {
        None
    }

    fn forget(&self, _near: &dyn Store) {}
}

#[test]
fn the_store_in_a_file_keeps_what_all_promise() {
    run_near(&|| Box::new(Local::new()));
}
