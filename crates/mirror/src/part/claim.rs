//! Becoming owner when the owner is silent, gone, or let go (M6, M8, M9, M11, M12).
//!
//! ```text
//!  nobody to wait for ─▶ near: grants nothing ─▶ asks the images, reads the record ─▶ takeover::decide ─┬▶ Mirror
//!        ▲  (promise over)                                                                            │
//!        └───────────────────────────── wait: news, or a pause ◀───────────────────────────────────────┘
//! ```

use dyad_cluster::takeover::{Kept, OwnerSign, Shown, Verdict, View, WaitReason, Witness, decide};
use dyad_cluster::{Change, IMAGES_MAX, ImageState, Incarnation, OutReason};
use dyad_contract::image::{Survey, Token};
use dyad_units::{ImageId, Moment};

use crate::image::Asker;
use crate::lease::Leases;
use crate::part::event::PartAction;
use crate::part::local::has_everything;
use crate::part::message::PeerMessage;
use crate::part::part::{Life, Part};
use crate::part::store::Proposer;

/// Marks questions of a claim among those of a mirror: the mirror's tokens stay below.
const CLAIMS: u64 = 1 << 62;

/// Somebody thinks of becoming owner.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// Names the round of questions.
    token: Token,
    /// When the questions were asked; none: not yet.
    asked: Option<Moment>,
    shown: [(Option<ImageId>, Shown); IMAGES_MAX],
    /// From here on nothing is granted (M6).
    pub(super) is_near: bool,
    pub(super) look_at: Moment,
    /// Why not, so far.
    pub(super) why: Option<String>,
}

impl Part {
    /// There are news that may let a claim succeed: look again now.
    pub(super) fn news(&mut self) {
        if let Some(claim) = &mut self.claim {
            claim.asked = None;
            claim.look_at = self.now;
        }
    }

    /// What was asked for came: decide now.
    pub(super) fn go_on_claiming(&mut self) {
        if let Some(claim) = self.claim.as_mut().filter(|claim| claim.asked.is_some()) {
            claim.look_at = self.now;
        }
    }

    /// A try ended without serving: again after a pause, or when there are news.
    pub(super) fn pause_claim(&mut self, why: Option<String>) {
        let mut claim = self.new_claim();
        (claim.why, claim.look_at, claim.is_near) = (why, self.now + self.setup.tuning.claim_pause, false);
        self.claim = Some(claim);
    }

    fn new_claim(&mut self) -> Claim {
        self.claims += 1;
        Claim {
            token: Token(CLAIMS | self.claims),
            asked: None,
            shown: [(None, Shown::Unknown); IMAGES_MAX],
            is_near: true,
            look_at: self.now,
            why: None,
        }
    }

    /// Whether this node could be owner at all.
    fn is_candidate(&self) -> bool {
        let is_mine = |image: &dyad_cluster::ImageRecord| {
            image.node == self.me() && self.image(image.id).is_some_and(crate::image::Image::is_up)
        };
        self.life == Life::Live
            && self.reign.is_none()
            && !self.commands.is_promoting()
            && self.record.in_sync().any(is_mine)
    }

    /// When nothing stands in the way any more but other candidates: the promise is over (M5, M6), and no owner of now or
    /// later said lately that it lives.
    fn free_at(&self, leases: &Leases) -> Moment {
        if self.is_all_here() {
            return Moment::START;
        }
        let promised = leases.promised_until(self.record.id);
        let is_other = self.record.owner.is_some_and(|owner| owner != self.me());
        let listed = leases.listed(self.record.id).filter(|_| is_other);
        let promised = promised.max(self.commands.overruled_until);
        promised.max(listed.map_or(Moment::START, |at| at + leases.tuning().promise()))
    }

    /// Whether every image of the record, in whatever state, is this node's: then no other node can answer as owner, now or
    /// after (M6). To own it needs an image in sync. One that it had was dropped since, and only a serving owner, this node,
    /// drops: it claimed after every promise to the other had run out, and granted nothing since. A record that misses one is
    /// older than the one that the image here kept, and is not claimed (§8).
    pub(super) fn is_all_here(&self) -> bool {
        self.record.images.iter().all(|image| image.node == self.me())
    }

    /// Thinks of becoming owner.
    pub(super) fn consider_claim(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        self.read_again(out);
        self.promised_until = self.free_at(leases);
        if !self.is_candidate() {
            self.claim = None;
            return;
        }
        if self.promised_until > self.now {
            // A promise given meanwhile: whoever it was given to lives.
            self.claim = None;
            return;
        }
        if self.claim.is_none() {
            self.claim = Some(self.new_claim());
        }
        let Some(claim) = &mut self.claim else { return };
        if claim.look_at > self.now {
            return;
        }
        claim.is_near = true;
        if claim.asked.is_none() {
            self.begin_questions(out);
        }
        self.decide_claim(leases, out);
    }

    /// Asks every image that can be asked what it knows, and the store for the record.
    fn begin_questions(&mut self, out: &mut Vec<PartAction>) {
        let mut claim = self.new_claim();
        claim.why = self.claim.take().and_then(|claim| claim.why);
        claim.asked = Some(self.now);
        let token = claim.token;
        for (image, shown) in self.record.images.iter().zip(&mut claim.shown) {
            *shown = (Some(image.id), Shown::Unknown);
        }
        self.claim = Some(claim);
        self.store.seen_at = None;
        self.read(out);
        for (id, node) in self.record.images.iter().map(|image| (image.id, image.node)).collect::<Vec<_>>() {
            if node == self.me() {
                self.with_image(id, |image, to| image.show(Asker::Part, to));
            } else if self.peers.is_up(node) {
                out.push(PartAction::Send { to: node, message: PeerMessage::Survey { image: id, token } });
            }
        }
    }

    /// An image showed what it knows.
    pub(super) fn on_shown_to_claim(&mut self, image: ImageId, incarnation: Incarnation, survey: Option<Box<Survey>>) {
        self.on_shown_to_command(image, survey.as_deref());
        let record = &self.record;
        let Some(claim) = &mut self.claim else { return };
        let Some((_, shown)) = claim.shown.iter_mut().find(|(id, _)| *id == Some(image)) else { return };
        *shown = match survey {
            None => Shown::Absent,
            Some(survey) => Shown::Here(Witness {
                incarnation,
                has_everything: has_everything(&survey),
                has_lost: !survey.lost.is_empty(),
                epoch: survey.epoch,
                kept: Kept::of(&survey.record, record),
            }),
        };
        claim.look_at = claim.look_at.min(self.now);
        self.again = true;
    }

    /// Another node's image showed what it knows.
    pub(super) fn on_shown(
        &mut self,
        image: ImageId,
        token: Token,
        survey: Option<Box<Survey>>,
        incarnation: Incarnation,
    ) {
        if token.0 & CLAIMS == 0 {
            let index = self.reign.as_ref().and_then(|reign| reign.mirror.index_of(image));
            let error = dyad_contract::image::ImageError::Unreadable;
            let reply = survey.map_or(dyad_contract::image::Reply::Failed(error), dyad_contract::image::Reply::Survey);
            if let Some(image) = index {
                self.tell_mirror(crate::owner::Event::Image { image, token, reply });
            }
        } else if self.claim.as_ref().is_some_and(|claim| claim.token == token) {
            self.on_shown_to_claim(image, incarnation, survey);
        }
    }

    fn decide_claim(&mut self, leases: &mut Leases, out: &mut Vec<PartAction>) {
        let Some(claim) = &self.claim else { return };
        let Some(asked) = claim.asked else { return };
        let patient_until = asked + self.setup.tuning.show_wait;
        let is_read = self.store.seen_at.is_some_and(|at| at >= asked);
        let may_answer = |(image, shown): (&dyad_cluster::ImageRecord, &(Option<ImageId>, Shown))| {
            let can_be_asked = image.node == self.me() || self.peers.is_up(image.node);
            image.state == ImageState::InSync && can_be_asked && shown.1 == Shown::Unknown
        };
        let is_asking = self.record.images.iter().zip(&claim.shown).any(may_answer) && self.now < patient_until;
        if !is_read || is_asking || self.store.proposer != Proposer::Nobody {
            let look_at = if is_asking { patient_until } else { self.now + self.setup.tuning.claim_pause };
            if let Some(claim) = &mut self.claim {
                claim.look_at = look_at;
                if !is_read && self.now >= patient_until {
                    claim.is_near = false; // the store is away: others may be owner meanwhile
                    claim.asked = None;
                    claim.why = Some("the config store cannot be reached".to_owned());
                }
            }
            return;
        }
        if let Some(until) = self.lacks_images_until() {
            return self.wait_for_all(until);
        }
        self.fresh_until = None;
        let Some(claim) = &self.claim else { return };
        let verdict = decide(&View {
            record: &self.record,
            store: self.setup.store,
            me: self.me(),
            now: self.now,
            promised_until: self.promised_until,
            owner: OwnerSign::Nothing,
            shown: claim.shown.map(|(_, shown)| shown),
        });
        match verdict {
            Verdict::Claim { changes } => {
                self.claim = None;
                // M6: nothing is granted from here on; a beat that came before was looked at just now.
                leases.grant_for(self.record.id, None);
                // Whoever was asked and was silent is not asked again: the old owner, paused, would hold everything up (M9). Who
                // forgot did so since it was proved, which the mirror's own record will not say any more (M11).
                let is_known = |change: &Change| match change {
                    Change::Confirm { .. } => true,
                    Change::TakeOut { reason, .. } => matches!(reason, OutReason::Silent | OutReason::Forgot),
                    _ => false,
                };
                let changes = changes.into_iter().filter(is_known).collect();
                self.begin_reign(changes, leases, out);
            }
            Verdict::Wait { why, until } => self.wait_to_claim(why, until),
        }
    }

    /// Until when a segment that nobody ever owned waits for images that did not show themselves: without them it would begin
    /// by taking them out. Nobody waits for it yet, so nothing is lost by that.
    fn lacks_images_until(&self) -> Option<Moment> {
        let claim = self.claim.as_ref().filter(|_| self.record.owner.is_none())?;
        let is_out = |shown: &(Option<ImageId>, Shown)| shown.0.is_some() && !matches!(shown.1, Shown::Here(_));
        self.fresh_until.filter(|&until| self.now < until && claim.shown.iter().any(is_out))
    }

    /// Asks again when an image comes up, or then.
    fn wait_for_all(&mut self, until: Moment) {
        if let Some(claim) = &mut self.claim {
            (claim.asked, claim.look_at, claim.is_near) = (None, until, false);
            claim.why = Some("not every image of the new segment can be asked so far".to_owned());
        }
    }

    fn wait_to_claim(&mut self, why: WaitReason, until: Option<Moment>) {
        let pause = self.now + self.setup.tuning.claim_pause;
        let is_turn = matches!(why, WaitReason::Rank { .. } | WaitReason::Promised);
        if let Some(claim) = &mut self.claim {
            claim.why = Some(why.to_string());
            claim.look_at = until.unwrap_or(pause).max(self.now);
            // Whoever waits for a better one must let it become owner: its leases may need ours.
            claim.is_near = is_turn;
            if !is_turn {
                claim.asked = None;
            }
        }
    }

    /// A candidate that waits for a promise to run out has to be woken then.
    pub(super) fn idle_until(&self) -> Option<Moment> {
        let waits = self.is_candidate() && self.promised_until > self.now;
        let links = self.links_deadline();
        [waits.then_some(self.promised_until), links].into_iter().flatten().min()
    }
}
