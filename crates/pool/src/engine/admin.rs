//! Changes that are done when the journal has them: images made and deleted, closed values, records, the end.

use dyad_contract::image::Token;
use dyad_units::Bytes;

use crate::engine::Pool;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::image::{Image, ImageHandle};
use crate::engine::marks::Regions;
use crate::entry::Slot;
use crate::error::AdminError;
use crate::format::page::MARKS_PER_PAGE;
use crate::format::state::{Change as Journaled, ImageMeta, ImageNo, ImagePhase, LayerNo, PageNo, PageOwner};
use crate::map::ExtentMap;

/// Names an administrator's change until its answer. Chosen by the caller.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AdminToken(pub u64);

/// Answer to an administrator's change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminReply {
    /// The image may be used.
    Created(ImageHandle),
    /// The image is gone.
    Deleted,
    /// Everything is durable and the journal is empty: the pool may be dropped.
    Stopped,
    /// Refused or failed.
    Failed(AdminError),
}

/// What is answered, or goes on, when the journal has a change.
pub(super) enum Change {
    Request {
        at: usize,
        token: Token,
    },
    Created {
        at: usize,
        token: AdminToken,
    },
    /// The image is marked as being deleted; `None`: the node was restarted meanwhile, nobody asks.
    Deleting {
        at: usize,
        token: Option<AdminToken>,
    },
    Gone {
        token: Option<AdminToken>,
        slots: Vec<Slot>,
        pages: Vec<PageNo>,
    },
    /// Waits for a checkpoint beyond this count instead of the journal.
    Stop {
        token: AdminToken,
        checkpoint: u64,
    },
}

pub(super) struct Pending {
    pub(super) durable_at: u64,
    pub(super) change: Change,
}

/// Largest image: what the extents below the state extent can address, 1 PiB.
pub const IMAGE_SIZE_MAX: Bytes = Bytes::new(dyad_units::Span::END_MAX);

impl Pool {
    /// Makes an empty image. `meta.phase` must be ready; sizes are rounded up to whole extents by the map alone.
    pub fn create_image(&mut self, token: AdminToken, meta: ImageMeta) {
        match self.try_create(meta) {
            Ok((at, durable_at)) => self.wait_for_commit(durable_at, Change::Created { at, token }),
            Err(error) => self.admin_replies.push((token, AdminReply::Failed(error))),
        }
    }

    fn try_create(&mut self, meta: ImageMeta) -> Result<(usize, u64), AdminError> {
        if self.poison.is_poisoned() {
            return Err(AdminError::Poisoned);
        }
        if self.find(meta.id).is_some() {
            return Err(AdminError::Exists(meta.id));
        }
        if meta.size > IMAGE_SIZE_MAX {
            return Err(AdminError::TooLarge { max: IMAGE_SIZE_MAX });
        }
        let regions = meta.size.value().div_ceil(u64::from(dyad_units::REGION_BYTES));
        let mark_pages = regions.div_ceil(MARKS_PER_PAGE as u64) as u32;
        if self.pages.free() < u64::from(mark_pages) + 1 {
            return Err(AdminError::Full);
        }
        let number = self.images.iter().flatten().map(|image| image.no.0.max(image.layer.0) + 1).max().unwrap_or(1);
        let (no, layer) = (ImageNo(number), LayerNo(number));
        self.ensure_page(PageOwner::Image { image: no });
        for index in 0..mark_pages {
            self.ensure_page(PageOwner::Marks { image: no, index });
        }
        let image = Image {
            no,
            layer,
            map: ExtentMap::default(),
            regions: Regions::new(meta.size, &[], false),
            meta,
            requests: 0,
            unsettled: Vec::new(),
            lived_through: true,
            map_dirty: Vec::new(),
            stamp_dirty: Vec::new(),
        };
        let at = self.images.iter().position(Option::is_none).unwrap_or(self.images.len());
        if at == self.images.len() {
            self.images.push(None);
        }
        self.images[at] = Some(image);
        let durable_at = self.enqueue_image(at);
        Ok((at, durable_at))
    }

    /// Deletes an image and everything it holds. Refused while requests to it are in flight.
    pub fn delete_image(&mut self, token: AdminToken, handle: ImageHandle, id: dyad_units::ImageId) {
        let refused = match self.image_at(handle) {
            Some(at) if self.image(at).meta.id == id => {
                if self.poison.is_poisoned() {
                    AdminError::Poisoned
                } else if self.image(at).requests > 0 || self.image(at).meta.phase == ImagePhase::Deleting {
                    AdminError::Busy(id)
                } else {
                    return self.begin_deletion(at, Some(token));
                }
            }
            _ => AdminError::Unknown(id),
        };
        self.admin_replies.push((token, AdminReply::Failed(refused)));
    }

    fn begin_deletion(&mut self, at: usize, token: Option<AdminToken>) {
        self.image_mut(at).meta.phase = ImagePhase::Deleting;
        let durable_at = self.enqueue_image(at);
        self.wait_for_commit(durable_at, Change::Deleting { at, token });
    }

    /// Deletions that a restart interrupted go on.
    pub(super) fn finish_deletions(&mut self) {
        for at in 0..self.images.len() {
            if self.images[at].as_ref().is_some_and(|image| image.meta.phase == ImagePhase::Deleting) {
                self.begin_deletion(at, None);
            }
        }
    }

    /// The phase is durable: let go of everything, then say so in the journal. The image's place is kept until then, so that
    /// flush rounds under way find it.
    fn let_go(&mut self, at: usize, token: Option<AdminToken>) {
        if !self.flusher.is_idle() {
            let durable_at = self.commits.durable();
            return self.wait_for_commit(durable_at, Change::Deleting { at, token });
        }
        let Some(image) = self.images[at].take() else { return };
        let slots: Vec<Slot> = image.map.entries().filter_map(|(_, entry)| entry.slot()).collect();
        for &slot in &slots {
            self.sums.forget(slot);
        }
        self.shadow.retain(|&(owner, _), _| owner != at as u32);
        self.space.void_promises(at);
        let pages = self.pages.disown(image.no, image.layer);
        let durable_at = self.enqueue(Journaled::ImageGone { image: image.no });
        self.wait_for_commit(durable_at, Change::Gone { token, slots, pages });
    }

    /// Makes everything durable and empties the journal, so that the next start has nothing to recover. The caller sends no
    /// further requests.
    pub fn stop(&mut self, token: AdminToken) {
        if self.poison.is_poisoned() {
            return self.admin_replies.push((token, AdminReply::Failed(AdminError::Poisoned)));
        }
        let checkpoint = self.checkpoint.done() + if Checkpoint::is_idle(&self.checkpoint) { 1 } else { 2 };
        self.wait_for_commit(0, Change::Stop { token, checkpoint });
        self.start_flush_for_housekeeping();
        self.want_checkpoint();
    }

    /// The journal or the checkpoint got further.
    pub(super) fn finish_admin(&mut self) {
        let (durable, checkpoints) = (self.commits.durable(), self.checkpoint.done());
        let mut due = Vec::new();
        let mut at = 0;
        while at < self.admin.len() {
            let pending = &self.admin[at];
            let waits = match pending.change {
                Change::Stop { checkpoint, .. } => checkpoints < checkpoint,
                _ => pending.durable_at > durable,
            };
            if waits {
                at += 1;
            } else {
                due.push(self.admin.remove(at).change);
            }
        }
        for change in due {
            self.finish(change);
        }
        if self.admin.iter().any(|pending| matches!(pending.change, Change::Stop { .. })) {
            self.want_checkpoint();
        }
    }

    fn finish(&mut self, change: Change) {
        match change {
            Change::Request { at, token } => self.answer_committed(at, token),
            Change::Created { at, token } => {
                self.admin_replies.push((token, AdminReply::Created(ImageHandle::new(at))));
            }
            Change::Deleting { at, token } => self.let_go(at, token),
            Change::Gone { token, slots, pages } => {
                let ops = &self.ops;
                self.space.freed(slots.into_iter(), |slot| ops.uses_slot(slot));
                self.pages.release(pages);
                if let Some(token) = token {
                    self.admin_replies.push((token, AdminReply::Deleted));
                }
            }
            Change::Stop { token, .. } => self.admin_replies.push((token, AdminReply::Stopped)),
        }
    }

    pub(super) fn fail_admin(&mut self) {
        for pending in std::mem::take(&mut self.admin) {
            let token = match pending.change {
                Change::Request { at, token } => {
                    self.fail_committed(at, token);
                    continue;
                }
                Change::Created { at, token } => {
                    self.images[at] = None;
                    Some(token)
                }
                Change::Stop { token, .. } => Some(token),
                Change::Deleting { token, .. } | Change::Gone { token, .. } => token,
            };
            if let Some(token) = token {
                self.admin_replies.push((token, AdminReply::Failed(AdminError::Poisoned)));
            }
        }
    }
}
