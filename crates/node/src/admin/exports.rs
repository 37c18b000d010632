//! Detached images that this node exports: begun and ended on request, and begun again after a restart.

use std::sync::PoisonError;

use dyad_cluster::{Key, Record};
use dyad_units::{ImageId, VolumeId};

use super::Admin;
use crate::control::QueryError;
use crate::exported::{self, Exported};
use crate::reactor::{ExportFault, Message};

/// An export was not begun or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Node(#[from] QueryError),
    #[error(transparent)]
    Fault(#[from] ExportFault),
    #[error("the image is not exported")]
    NotExported,
    #[error("the node cannot note that it exports the image: {0}")]
    Note(#[from] std::io::Error),
}

impl Admin {
    /// What was exported when the node ended.
    pub(super) fn recall_exports(&self) {
        match exported::read(&self.settings.data_dir) {
            Ok(exported) => *self.exported.lock().unwrap_or_else(PoisonError::into_inner) = exported,
            // Hosts are better off without these targets than without the node.
            Err(error) => tracing::error!(%error, "it is not known which images were exported"),
        }
    }

    /// Exports an image, or ends that.
    pub(super) fn export(&self, volume: VolumeId, image: ImageId, is_wanted: bool) -> Result<(), ExportError> {
        let mut noted = self.noted();
        let is_noted = noted.iter().any(|(_, known)| *known == image);
        noted.retain(|(_, known)| *known != image);
        if !is_wanted {
            // In this order: a crash in between leaves nothing that begins again.
            self.note(noted)?;
            let was_there = self.ask(|reply| Message::UnexportImage { image, reply })?;
            return if was_there || is_noted { Ok(()) } else { Err(ExportError::NotExported) };
        }
        self.ask(|reply| Message::ExportImage { volume, image, is_new: true, reply })??;
        noted.push((volume, image));
        if let Err(error) = self.note(noted) {
            let _ = self.ask(|reply| Message::UnexportImage { image, reply });
            return Err(error.into());
        }
        Ok(())
    }

    /// Begins again what was exported before this process, and forgets what cannot be any more.
    pub(super) fn tend_exports(&self) {
        let before = self.noted();
        if before.is_empty() {
            return;
        }
        let mut after = before.clone();
        after.retain(|&(volume, image)| {
            match self.ask(|reply| Message::ExportImage { volume, image, is_new: false, reply }) {
                Ok(Err(ExportFault::Changing | ExportFault::Ended)) => false,
                // Its pool may be away for a while.
                Ok(Err(ExportFault::Absent)) => !self.is_gone(volume, image),
                Ok(_) | Err(_) => true,
            }
        });
        if after != before
            && let Err(error) = self.note(after)
        {
            tracing::error!(%error, "the node cannot note that it exports images no more");
        }
    }

    /// Whether the records have no such image; what cannot be read is not known to be gone.
    fn is_gone(&self, volume: VolumeId, image: ImageId) -> bool {
        match self.patiently(|| self.store.get(Key::Volume(volume))) {
            Ok(None) => true,
            Ok(Some(found)) => {
                let Record::Volume(record) = found.record else { return false };
                let segments: Result<Vec<_>, _> =
                    record.segments.iter().map(|id| self.patiently(|| self.store.get(Key::Segment(*id)))).collect();
                segments.is_ok_and(|segments| {
                    segments.into_iter().flatten().all(|found| match found.record {
                        Record::Segment(segment) => segment.images.iter().all(|known| known.id != image),
                        _ => true,
                    })
                })
            }
            Err(_) => false,
        }
    }

    fn noted(&self) -> Exported {
        self.exported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, exported: Exported) -> std::io::Result<()> {
        exported::write(&self.settings.data_dir, &exported)?;
        *self.exported.lock().unwrap_or_else(PoisonError::into_inner) = exported;
        Ok(())
    }
}
