//! How an image that fails leaves the set (A3, M8).
//!
//! ```text
//!  an image fails ──▶ failing: no longer asked, still waited for ──Propose──▶ store
//!                                                                    │ Unknown: the same proposal again (M7)
//!                     out: nobody waits for it  ◀──── Accepted ──────┤
//!                     Record to the others, then answers go out      └ Rejected: step down
//! ```
//!
//! Until the store has said that the image is out, whatever it should have acknowledged stays unanswered and
//! locked. The last image is never taken out: its errors go to the host (P15), unless it is another node's, which then
//! becomes owner and is the one to say what is true.

use dyad_cluster::{Change, OutReason};
use dyad_contract::volume::VolumeError;

use crate::owner::core::{Core, Work};
use crate::owner::event::{Action, ImageIndex, Note};
use crate::owner::images::Images;

impl Core {
    /// An image failed. True: it will be taken out, wait for that; false: it is the last one, and the failure
    /// is the host's.
    pub(crate) fn fail_image(&mut self, image: ImageIndex, reason: OutReason, out: &mut Vec<Action>) -> bool {
        if self.members.syncing.contains(image) && !self.members.in_sync.contains(image) {
            self.fail_syncing(image, reason, out);
            return true;
        }
        if !self.members.in_sync.contains(image) || self.members.failing.contains(image) {
            return true;
        }
        // Why an image cannot be reached is known better than what a request to it came to.
        let known = self.members.reasons[usize::from(image.0)].filter(|_| self.members.gone.contains(image));
        let reason = known.unwrap_or(reason);
        let is_new = self.members.reasons[usize::from(image.0)].replace(reason) != Some(reason);
        if self.members.readable() == Images::one(image) {
            if is_new {
                out.push(Action::Note(Note::LastImageFailed { image, reason }));
            }
            return false;
        }
        self.members.failing.insert(image);
        self.work.push_back(Work::Redirect);
        true
    }

    /// What a host is told of what the last image failed. Where none of this node's is left, the node of another becomes owner by
    /// the record that is being proposed (M8): that this one cannot reach it now says nothing of what it serves then, so the
    /// command is to come again there. It takes no effect after the next owner's fence (M3), as with whatever an owner leaves
    /// unanswered.
    pub(crate) fn fault_of_last(&self) -> VolumeError {
        let members = &self.members;
        let leaves = members.readable().and(members.local).is_empty();
        if leaves { VolumeError::Busy } else { VolumeError::WriteFault }
    }

    /// What takes out everybody who fails. Where that leaves no image on this node, the same step makes the node of
    /// another one owner (M8).
    pub(crate) fn take_outs(&self) -> Vec<Change> {
        let members = &self.members;
        let of = |image: ImageIndex| {
            let reason = members.reason_at(image);
            members.id_at(image).map(|image| Change::TakeOut { image, reason })
        };
        let mut changes: Vec<_> = members.failing.into_iter().filter_map(of).collect();
        let stays = members.readable();
        if !changes.is_empty()
            && stays.and(members.local).is_empty()
            && let Some(next) = stays.first().and_then(|image| members.image_at(image))
        {
            changes.push(Change::Own { node: next.node });
        }
        changes
    }
}
