//! Forwarded commands that are held up until their host was told to send them again (M18, M19): the plays in which a
//! write could take effect after a later one. The front, a node that has no image and sends everything on, is struck.

use super::faults::Mend;
use super::host::SENDER;
use super::net::NodeNo;
use super::plan::{Aim, FaultKind, Plan, Trigger};
use super::queue::{MILLIS, SECONDS, Time};
use super::world::World;
use crate::rng::Rng;

impl Plan {
    /// Two images and a front; one of the plays after the other.
    pub(super) fn draw_ghosts(&mut self, at: Time, rng: &mut Rng) {
        (self.images, self.nodes, self.segments, self.is_beyond_bound) = (2, 3, 1, false);
        self.hosts.push(SENDER);
        let mut at = at;
        for _ in 0..2 + rng.below(3) {
            let end = match rng.below(5) {
                0 => self.draw_earlier_reign(at, rng),
                1 => self.draw_old_forward(at, rng),
                2 => self.draw_hang_up(at, rng),
                _ => self.draw_sleeper(at, rng),
            };
            at = end + (300 + rng.below(1500)) * MILLIS;
        }
        self.until = self.until.max(at + 2 * SECONDS);
    }

    /// M18: what the front sent arrives when its owner has lost the segment and got it back.
    fn draw_earlier_reign(&mut self, at: Time, rng: &mut Rng) -> Time {
        let delay = (700 + rng.below(1500)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Front, FaultKind::SlowToOwner { delay }, delay * 2, rng);
        let away = at + (100 + rng.below(200)) * MILLIS;
        self.plan_fault(away, Trigger::Time, Aim::Follower, FaultKind::HandOver, 0, rng);
        let back = away + (50 + rng.below(300)) * MILLIS;
        self.plan_fault(back, Trigger::Time, Aim::Follower, FaultKind::HandOver, 0, rng);
        at + delay * 2
    }

    /// M19: commands wait at the front for an owner that it does not hear, are sent on for a moment, and arrive when
    /// the front has given them up.
    fn draw_old_forward(&mut self, at: Time, rng: &mut Rng) -> Time {
        let delay = (800 + rng.below(1200)) * MILLIS;
        let deaf = (2000 + rng.below(900)) * MILLIS;
        let heard = (100 + rng.below(200)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Front, FaultKind::SlowToOwner { delay }, deaf + heard + delay, rng);
        self.plan_fault(at, Trigger::Time, Aim::Front, FaultKind::OwnerUnheard, deaf, rng);
        let again = at + deaf + heard;
        self.plan_fault(again, Trigger::Time, Aim::Front, FaultKind::OwnerUnheard, delay + SECONDS, rng);
        again + delay + SECONDS
    }

    /// M19: the front gives up the connection, and what it had sent arrives long after that.
    fn draw_hang_up(&mut self, at: Time, rng: &mut Rng) -> Time {
        let delay = (300 + rng.below(1500)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Front, FaultKind::SlowToOwner { delay }, 2 * delay, rng);
        self.plan_fault(at + delay, Trigger::Time, Aim::Front, FaultKind::FrontHangsUp, delay, rng);
        at + 2 * delay
    }

    /// M19: the front is stopped until its hosts have gone on through other nodes.
    fn draw_sleeper(&mut self, at: Time, rng: &mut Rng) -> Time {
        let lasts = (7200 + rng.below(1500)) * MILLIS;
        self.plan_fault(at, Trigger::Time, Aim::Front, FaultKind::Pause, lasts, rng);
        at + lasts
    }
}

impl World {
    /// A node that has no image of the first segment.
    pub(super) fn front(&self) -> Option<NodeNo> {
        let record = &self.segments[0].stored;
        (0..self.plan.nodes).find(|&node| record.images.iter().all(|image| self.place(image.node) != Some(node)))
    }

    /// Letters from the front to the owner take longer, and those to a node that has an image too; what is on its way comes
    /// before them.
    pub(super) fn slow_to_owner(&mut self, front: NodeNo, delay: Time, end: Time) {
        let Some(owner) = self.owner(0).filter(|&owner| owner != front) else { return };
        self.net.slow_down(front, owner, delay);
        if self.front() != Some(front) {
            self.net.slow_down(owner, front, delay);
        }
        self.mend_later(end, Mend::Speed(front));
    }

    /// The front closes its connection to the owner. What it had sent arrives; the end of it comes after `lasts`.
    pub(super) fn hang_up(&mut self, front: NodeNo, lasts: Time) {
        let Some(owner) = self.owner(0).filter(|&owner| owner != front) else { return };
        let is_first = front < owner;
        let (now, late) = (self.queue.now(), lasts + MILLIS);
        let notices = if is_first { [MILLIS, late] } else { [late, MILLIS] };
        let keeps = if is_first { [256, 0] } else { [0, 256] };
        self.net.break_up(now, (front.min(owner), front.max(owner)), notices, keeps, &mut self.net_out);
        self.push_net();
    }

    /// The owner's beats do not reach the front.
    pub(super) fn unhear_owner(&mut self, front: NodeNo, end: Time) {
        let Some(owner) = self.owner(0).filter(|&owner| owner != front) else { return };
        self.lose_beats(owner, front, false, end);
    }
}
