//! The owner's streams to the segment's images, wherever they are (M3), and which of them can be reached (M8).
//!
//! ```text
//!             image can be asked, claim recorded         Opened
//!   closed ────────────────────────────────▶ opening ─────────────▶ open: Ask … Told
//!     ▲                                         │ too long: Gone       │
//!     └───────── connection broken: Lost ───────┴──────────────────────┘   150 ms later: Gone
//! ```
//!
//! While no stream is open, what the mirror asks is thrown away: it keeps everything unanswered, and sends it again, in
//! order, when it is told [`Event::Back`].

use dyad_cluster::{IMAGES_MAX, ImageState, OutReason};
use dyad_contract::image::{Request, Token};
use dyad_units::{Epoch, ImageId, Moment, NodeId};

use crate::image::Asker;
use crate::owner::{Event, ImageIndex};
use crate::part::event::PartAction;
use crate::part::message::PeerMessage;
use crate::part::part::Part;
use crate::part::peers::Says;

/// What the mirror was told of an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Told {
    /// It can be asked.
    #[default]
    Here,
    /// [`Event::Lost`], then.
    Lost { since: Moment },
    /// [`Event::Gone`].
    Gone,
}

/// The stream to an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Stream {
    #[default]
    Closed,
    Opening {
        since: Moment,
    },
    Open {
        link: u64,
    },
}

/// What the owner knows of an image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    pub(super) image: Option<ImageId>,
    pub(super) told: Told,
    pub(super) stream: Stream,
    /// The life of the image's node in which it last had everything that it replied to.
    life: Option<u64>,
    /// Not to be opened before: it did not open lately.
    not_before: Option<Moment>,
}

/// Whether an image can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    Here { life: u64, has_everything: bool },
    Unknown,
    Down(OutReason),
}

impl Part {
    /// The node of an image of the mirror's record, and its state there.
    fn place_of(&self, index: usize) -> Option<(ImageId, NodeId, ImageState)> {
        let mirror = &self.reign.as_ref()?.mirror;
        let id = mirror.image_at(ImageIndex(index as u8))?;
        mirror.record().image(id).map(|image| (id, image.node, image.state))
    }

    fn reach(&self, image: ImageId, node: NodeId) -> Reach {
        if node == self.me() {
            let came = self.came.iter().find(|(id, _)| *id == image);
            return match (self.image(image), came) {
                (Some(_), Some(&(_, has_everything))) => {
                    Reach::Here { life: self.setup.incarnation.start, has_everything }
                }
                (Some(known), None) => known.down().map_or(Reach::Unknown, Reach::Down),
                (None, _) => Reach::Down(OutReason::Absent),
            };
        }
        let life = self.peers.get(node).map_or(0, |peer| peer.incarnation.start);
        match self.peers.said(node, image) {
            Some(Says::Up { has_everything }) => Reach::Here { life, has_everything },
            Some(Says::Down(reason)) => Reach::Down(reason),
            None => Reach::Unknown,
        }
    }

    /// A new reign: the mirror is told who cannot be asked before it starts.
    pub(super) fn begin_links(&mut self) {
        for at in 0..IMAGES_MAX {
            let Some((image, node, _)) = self.place_of(at) else { continue };
            let mut link = Link { image: Some(image), ..Link::default() };
            match self.reach(image, node) {
                Reach::Here { life, .. } => link.life = Some(life),
                Reach::Unknown => {
                    link.told = Told::Gone;
                    self.tell_gone(at, OutReason::Absent);
                }
                Reach::Down(reason) => {
                    link.told = Told::Gone;
                    self.tell_gone(at, reason);
                }
            }
            if let Some(reign) = &mut self.reign {
                reign.links[at] = link;
            }
        }
    }

    fn tell_gone(&mut self, at: usize, reason: OutReason) {
        self.tell_mirror(Event::Gone { image: ImageIndex(at as u8), reason });
    }

    /// Looks at every image: is it there, must its stream be opened, is it gone?
    pub(super) fn sync_links(&mut self, out: &mut Vec<PartAction>) {
        for at in 0..IMAGES_MAX {
            let place = self.place_of(at);
            let Some(reign) = &mut self.reign else { return };
            let link = &mut reign.links[at];
            let Some((image, node, state)) = place else {
                *link = Link::default();
                continue;
            };
            if link.image != Some(image) {
                // Added meanwhile: it is there when it says so. Its node may have been connected before (M11).
                *link = Link { image: Some(image), told: Told::Gone, ..Link::default() };
                let life = self.peers.get(node).map(|peer| peer.incarnation);
                reign.mirror.set_incarnation(ImageIndex(at as u8), life);
            }
            match self.reach(image, node) {
                Reach::Here { life, has_everything } => {
                    self.on_here(at, (image, node, state), life, has_everything, out)
                }
                Reach::Unknown => self.on_away(at, None),
                Reach::Down(reason) => self.on_away(at, Some(reason)),
            }
        }
    }

    fn on_away(&mut self, at: usize, reason: Option<OutReason>) {
        let (now, grace) = (self.now, self.setup.tuning.link_grace);
        let Some(reign) = &mut self.reign else { return };
        let link = &mut reign.links[at];
        link.stream = Stream::Closed;
        if link.told == Told::Here {
            link.told = Told::Lost { since: now };
            self.tell_mirror(Event::Lost { image: ImageIndex(at as u8) });
        }
        let Some(reign) = &mut self.reign else { return };
        let link = &mut reign.links[at];
        if let Told::Lost { since } = link.told
            && (reason.is_some() || since + grace <= now)
        {
            link.told = Told::Gone;
            self.tell_gone(at, reason.unwrap_or(OutReason::Absent));
        }
    }

    fn on_here(
        &mut self,
        at: usize,
        (image, node, state): (ImageId, NodeId, ImageState),
        life: u64,
        has_everything: bool,
        out: &mut Vec<PartAction>,
    ) {
        let (now, open_wait) = (self.now, self.setup.tuning.open_wait);
        let Some(reign) = &mut self.reign else { return };
        let is_claimed = reign.is_claimed();
        let link = &mut reign.links[at];
        // M11: an image in sync that is in another life now, and forgot, does not come back before it caught up. M15: one
        // that is catching up has of this run only what its cursor says, whatever it lived through.
        let forgot = link.life.is_some_and(|known| known != life)
            && match state {
                ImageState::InSync => !has_everything,
                ImageState::Syncing => true,
                ImageState::Stale | ImageState::Detached => false,
            };
        if link.told != Told::Gone && forgot {
            (link.told, link.stream) = (Told::Gone, Stream::Closed);
            return self.tell_gone(at, if has_everything { OutReason::Absent } else { OutReason::Forgot });
        }
        // What is out of reach for the mirror comes back only once the record says so too (A3).
        if state == ImageState::Detached || (link.told == Told::Gone && state == ImageState::InSync) {
            return;
        }
        if !is_claimed {
            // Nothing but questions so far, which need no stream.
            if matches!(link.told, Told::Lost { .. }) {
                (link.told, link.life) = (Told::Here, Some(life));
                self.tell_mirror(Event::Back { image: ImageIndex(at as u8) });
            }
            return;
        }
        match link.stream {
            Stream::Closed if link.not_before.is_none_or(|at| at <= now) => {
                (link.stream, link.life) = (Stream::Opening { since: now }, Some(life));
                self.open(image, node, out);
            }
            Stream::Opening { since } if since + open_wait <= now => {
                link.stream = Stream::Closed;
                link.not_before = Some(now + open_wait);
                if link.told != Told::Gone {
                    link.told = Told::Gone;
                    self.tell_gone(at, OutReason::Silent);
                }
            }
            Stream::Closed | Stream::Opening { .. } | Stream::Open { .. } => {}
        }
    }

    fn open(&mut self, image: ImageId, node: NodeId, out: &mut Vec<PartAction>) {
        let Some(reign) = &self.reign else { return };
        let record = Box::new(reign.mirror.record().clone());
        if node == self.me() {
            self.with_image(image, |image, to| image.open(node, record, to));
        } else {
            out.push(PartAction::Send { to: node, message: PeerMessage::Open { image, record } });
        }
    }

    /// The stream is open: whatever is unanswered is sent again (decision of M3: fresh number, same requests).
    pub(super) fn on_opened(&mut self, image: ImageId, epoch: Epoch, link_number: u64) {
        let Some(reign) = &mut self.reign else { return };
        let Some(index) = reign.mirror.index_of(image) else { return };
        let is_of_now = reign.is_claimed() && epoch <= reign.mirror.record().epoch;
        let link = &mut reign.links[usize::from(index.0)];
        // A stream that was wanted twice may open twice: the later one is the one that the image obeys.
        let is_wanted = match link.stream {
            Stream::Opening { .. } => true,
            Stream::Open { link: known } => known < link_number,
            Stream::Closed => false,
        };
        if !is_of_now || !is_wanted {
            return;
        }
        let was = link.told;
        (link.stream, link.told, link.not_before) = (Stream::Open { link: link_number }, Told::Here, None);
        if was == Told::Here {
            self.tell_mirror(Event::Lost { image: index });
        }
        self.tell_mirror(Event::Back { image: index });
        self.returns.look_at = Some(self.now);
    }

    /// An image said that it can be asked, or not. A stream to it is closed then in any case.
    pub(super) fn on_said(&mut self, image: ImageId, says: Says) {
        self.news();
        let Some(reign) = &mut self.reign else { return };
        let Some(index) = reign.mirror.index_of(image) else { return };
        let link = &mut reign.links[usize::from(index.0)];
        link.stream = Stream::Closed;
        if let Says::Down(reason) = says
            && link.told != Told::Gone
        {
            link.told = Told::Gone;
            link.not_before = Some(self.now + self.setup.tuning.open_wait);
            self.tell_gone(usize::from(index.0), reason);
        }
    }

    /// The connection to a node ended.
    pub(super) fn close_links_to(&mut self, node: NodeId) {
        for at in 0..IMAGES_MAX {
            if self.place_of(at).is_some_and(|(_, on, _)| on == node)
                && let Some(reign) = &mut self.reign
            {
                reign.links[at].stream = Stream::Closed;
            }
        }
    }

    /// The mirror asks an image.
    pub(super) fn ask(&mut self, index: ImageIndex, token: Token, request: Request, out: &mut Vec<PartAction>) {
        let Some((image, node, _)) = self.place_of(usize::from(index.0)) else { return };
        if matches!(request, Request::Show) {
            if node == self.me() {
                self.with_image(image, |image, to| image.show(Asker::Mirror(token), to));
            } else {
                out.push(PartAction::Send { to: node, message: PeerMessage::Survey { image, token } });
            }
            return;
        }
        let Some(reign) = &self.reign else { return };
        let Stream::Open { link } = reign.links[usize::from(index.0)].stream else { return };
        if node == self.me() {
            self.with_image(image, |image, to| image.ask(node, link, token, request, to));
        } else {
            out.push(PartAction::Send { to: node, message: PeerMessage::Ask { image, link, token, request } });
        }
    }

    /// An image's node replied on the stream.
    pub(super) fn on_told(
        &mut self,
        from: NodeId,
        (image, link): (ImageId, u64),
        token: Token,
        reply: dyad_contract::image::Reply,
    ) {
        let Some(reign) = &self.reign else { return };
        let Some(index) = reign.mirror.index_of(image) else { return };
        let is_current = reign.links[usize::from(index.0)].stream == Stream::Open { link };
        if is_current && self.place_of(usize::from(index.0)).is_some_and(|(_, node, _)| node == from) {
            self.tell_mirror(Event::Image { image: index, token, reply });
        } else {
            self.counters.discarded += 1;
        }
    }

    /// When a link has to be looked at again.
    pub(super) fn links_deadline(&self) -> Option<Moment> {
        let reign = self.reign.as_ref()?;
        let tuning = &self.setup.tuning;
        let of_link = |link: &Link| {
            let lost = match link.told {
                Told::Lost { since } if link.stream == Stream::Closed => Some(since + tuning.link_grace),
                _ => None,
            };
            let opening = match link.stream {
                Stream::Opening { since } => Some(since + tuning.open_wait),
                Stream::Closed => link.not_before,
                Stream::Open { .. } => None,
            };
            [lost, opening].into_iter().flatten().min()
        };
        reign.links.iter().filter_map(of_link).filter(|&at| at > self.now).min()
    }
}
