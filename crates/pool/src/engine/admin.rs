//! Changes that are done when the journal has them: images made and deleted, closed values, records, the end.

use dyad_contract::image::{ImageError, Reply, Token};
use dyad_units::{Bytes, Epoch};

use crate::engine::Pool;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::flush::{Depth, Waiter};
use crate::engine::image::{Image, ImageHandle};
use crate::engine::regions::Regions;
use crate::entry::Slot;
use crate::error::AdminError;
use crate::format::page::MARKS_PER_PAGE;
use crate::format::state::{Change as Journaled, ImageMeta, ImageNo, ImagePhase, LayerNo, PageOwner};
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
    /// Waits for changes of lower epochs too.
    Record {
        at: usize,
        token: Token,
        epoch: Epoch,
    },
    /// Nothing of the image is suspect any more.
    Proved {
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
    },
    /// Waits for as many checkpoints, instead of the journal, then for a seal that names the new tail.
    Stop {
        token: AdminToken,
        checkpoint: u64,
    },
}

pub(super) struct Pending {
    pub(super) durable_at: u64,
    pub(super) change: Change,
}

fn mark_pages(size: Bytes) -> u32 {
    let regions = size.value().div_ceil(u64::from(dyad_units::REGION_BYTES));
    regions.div_ceil(MARKS_PER_PAGE as u64) as u32
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
        // Pages that were promised to writes are not taken from them (P15).
        if self.pages.free().saturating_sub(self.space.promised()) < u64::from(mark_pages(meta.size)) + 1 {
            return Err(AdminError::Full);
        }
        let number = self.pages.number_image();
        let (no, layer) = (ImageNo(number), LayerNo(number));
        let regions = Regions::new(meta.size, &[], false);
        let at = self.images.iter().position(Option::is_none).unwrap_or(self.images.len());
        if at == self.images.len() {
            self.images.push(None);
        }
        self.images[at] = Some(Image::new(no, layer, meta, ExtentMap::default(), regions));
        self.ensure_page(PageOwner::Image { image: no });
        self.enqueue_image(at);
        self.ensure_mark_pages(at);
        Ok((at, self.commits.enqueued()))
    }

    /// Every part of the image's region log has a page. After a crash in the middle of making an image some may lack one.
    pub(super) fn ensure_mark_pages(&mut self, at: usize) {
        let (image, size) = (self.image(at).no, self.image(at).meta.size);
        for index in 0..mark_pages(size) {
            self.ensure_page(PageOwner::Marks { image, index });
        }
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

    /// Whether an image is on its way out, with its slots and pages.
    pub(super) fn is_deleting(&self) -> bool {
        self.admin.iter().any(|pending| matches!(pending.change, Change::Deleting { .. } | Change::Gone { .. }))
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
    /// flush rounds under way find it; and until its pages are up to date, because the journal may be cut before it says that
    /// the image is gone, and whoever opens the pool then reads them (P2).
    fn let_go(&mut self, at: usize, token: Option<AdminToken>) {
        let (image, layer) = (self.image(at).no, self.image(at).layer);
        let is_behind = |page| self.pages.is_behind(page) || self.checkpoint.writes(page);
        let is_behind = self.pages.of(image, layer).any(is_behind);
        if is_behind {
            self.want_checkpoint();
        }
        if is_behind || !self.flusher.is_between_rounds() {
            let durable_at = self.commits.durable();
            return self.wait_for_commit(durable_at, Change::Deleting { at, token });
        }
        let Some(image) = self.images[at].take() else { return };
        let slots: Vec<Slot> = image.map.entries().filter_map(|(_, entry)| entry.slot()).collect();
        self.extents_lost -= image.lost().count() as u64;
        self.sums.forget_image(at);
        self.damage.forget_image(at);
        self.doubts.forget_image(at);
        self.shadow.retain(|&(owner, _), _| owner != at as u32);
        self.space.void_promises(at);
        self.carried -= image.unsettled.len();
        self.pages.disown(image.no, image.layer);
        let durable_at = self.enqueue(Journaled::ImageGone { image: image.no });
        self.wait_for_commit(durable_at, Change::Gone { token, slots });
    }

    /// Makes everything durable and empties the journal, so that the next start has nothing to recover. The caller sends no
    /// further requests.
    pub fn stop(&mut self, token: AdminToken) {
        if self.poison.is_poisoned() {
            return self.admin_replies.push((token, AdminReply::Failed(AdminError::Poisoned)));
        }
        self.flush_for(Waiter::Stop(token), Depth::Stamps);
    }

    /// Everything is committed: bring the pages up to date, with a checkpoint that began after that.
    pub(super) fn stop_flushed(&mut self, token: AdminToken) {
        let checkpoint = self.checkpoint.done() + if Checkpoint::is_idle(&self.checkpoint) { 1 } else { 2 };
        self.wait_for_commit(0, Change::Stop { token, checkpoint });
        self.want_checkpoint();
    }

    pub(super) fn fail_stop(&mut self, token: AdminToken) {
        self.admin_replies.push((token, AdminReply::Failed(AdminError::Poisoned)));
    }

    /// The journal or the checkpoint got further.
    pub(super) fn finish_admin(&mut self) {
        if self.admin.is_empty() {
            return;
        }
        let (durable, checkpoints) = (self.commits.durable(), self.checkpoint.done());
        let mut due = Vec::new();
        let mut at = 0;
        while at < self.admin.len() {
            let pending = &self.admin[at];
            let waits = match pending.change {
                Change::Stop { checkpoint, .. } => checkpoints < checkpoint,
                Change::Record { at, epoch, .. } => pending.durable_at > durable || self.has_older_change(at, epoch),
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
        let stops = self.admin.iter().any(|pending| match pending.change {
            Change::Stop { checkpoint, .. } => checkpoint > self.checkpoint.done(),
            _ => false,
        });
        if stops {
            self.want_checkpoint();
        }
    }

    fn finish(&mut self, change: Change) {
        match change {
            Change::Request { at, token } => self.answer_committed(at, token),
            Change::Record { at, token, .. } => {
                self.records_waiting -= 1;
                self.answer_committed(at, token);
            }
            Change::Proved { at, token } => {
                self.image_mut(at).lived_through = true;
                self.answer_committed(at, token);
            }
            Change::Created { at, token } => {
                self.admin_replies.push((token, AdminReply::Created(ImageHandle::new(at))));
            }
            Change::Deleting { at, token } => self.let_go(at, token),
            Change::Gone { token, mut slots } => {
                self.space.freed(&mut slots, &self.ops);
                if let Some(token) = token {
                    self.admin_replies.push((token, AdminReply::Deleted));
                }
            }
            Change::Stop { token, checkpoint } => {
                if self.seal_journal() {
                    self.admin_replies.push((token, AdminReply::Stopped));
                } else {
                    self.wait_for_commit(0, Change::Stop { token, checkpoint });
                }
            }
        }
    }

    pub(super) fn fail_admin(&mut self) {
        self.records_waiting = 0;
        for pending in std::mem::take(&mut self.admin) {
            let token = match pending.change {
                Change::Request { at, token } | Change::Record { at, token, .. } | Change::Proved { at, token } => {
                    self.finish_change(at, token, Reply::Failed(ImageError::Poisoned));
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
