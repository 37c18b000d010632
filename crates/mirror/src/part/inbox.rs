//! What other nodes say, and whether they are there.

use dyad_cluster::Incarnation;
use dyad_contract::image::{Request, Token};
use dyad_units::{Extent, ImageId, NodeId, Stamp};

use crate::image::Asker;
use crate::lease::Leases;
use crate::part::event::PartAction;
use crate::part::front::Origin;
use crate::part::message::PeerMessage;
use crate::part::part::Part;
use crate::part::peers::Says;

impl Part {
    pub(super) fn on_peer_up(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        leases: &mut Leases,
        out: &mut Vec<PartAction>,
    ) {
        if self.peers.is_up(node) {
            self.on_peer_down(node, out); // one that was up has ended before
        }
        leases.hello(node, incarnation, self.now);
        self.peers.begin(node, incarnation);
        if let Some(reign) = &mut self.reign {
            let record = reign.mirror.record();
            let on_node = record.images.iter().filter(|image| image.node == node);
            let ids: smallvec::SmallVec<[_; dyad_cluster::IMAGES_MAX]> = on_node.map(|image| image.id).collect();
            for id in ids {
                if let Some(index) = reign.mirror.index_of(id) {
                    reign.mirror.set_incarnation(index, Some(incarnation));
                }
            }
        }
        out.push(PartAction::Send { to: node, message: PeerMessage::Record { record: Box::new(self.record.clone()) } });
        for image in &self.images {
            let id = image.id();
            let message = match (self.came.iter().find(|(known, _)| *known == id), image.down()) {
                (Some(&(image, has_everything)), _) => PeerMessage::ImageUp { image, has_everything },
                (None, Some(reason)) => PeerMessage::ImageDown { image: id, reason },
                (None, None) => continue, // said when its pool has answered
            };
            out.push(PartAction::Send { to: node, message });
        }
        self.news();
    }

    pub(super) fn on_peer_down(&mut self, node: NodeId, out: &mut Vec<PartAction>) {
        self.peers.end(node);
        self.images.iter_mut().for_each(|image| image.peer_down(node));
        self.close_links_to(node);
        self.on_lister_down(node);
        self.lose_operations_of(node, out);
        self.again = true;
    }

    pub(super) fn on_message(
        &mut self,
        from: NodeId,
        message: PeerMessage,
        leases: &mut Leases,
        out: &mut Vec<PartAction>,
    ) {
        if !self.peers.is_up(from) {
            return; // of a connection that ended
        }
        match message {
            PeerMessage::Record { record } => {
                let epoch = record.epoch;
                self.learn(record, leases, out);
                if epoch == self.record.epoch {
                    self.release_those_that_left(Some(from));
                }
            }
            PeerMessage::ImageUp { image, has_everything } => {
                self.said(from, image, Says::Up { has_everything });
            }
            PeerMessage::ImageDown { image, reason } => self.said(from, image, Says::Down(reason)),
            PeerMessage::Open { image, record } => {
                self.learn(record.clone(), leases, out);
                self.with_image(image, |image, to| image.open(from, record, to));
            }
            PeerMessage::Opened { image, epoch, link } => {
                if self.is_on(image, from) {
                    self.on_opened(image, epoch, link);
                    leases.hurry(self.now);
                }
            }
            PeerMessage::Refused { image: _, record } => self.learn(record, leases, out),
            PeerMessage::Ask { image, link, token, request } => {
                self.with_image(image, |image, to| image.ask(from, link, token, request, to));
            }
            PeerMessage::Told { image, link, token, reply } => self.on_told(from, (image, link), token, reply),
            PeerMessage::Survey { image, token } => self.show_to(from, image, token, out),
            PeerMessage::Shown { image, token, survey, incarnation } => {
                if self.is_on(image, from) {
                    self.on_shown(image, token, survey, incarnation);
                }
            }
            PeerMessage::List { image, token, after, from: at } => self.list_to(from, (image, token), (after, at), out),
            PeerMessage::Listed { image, token, changed } => {
                if self.is_on(image, from) {
                    self.on_listed(token, changed);
                }
            }
            PeerMessage::Forward { id, epoch, age, beat, op } => {
                self.on_forward((from, id), (epoch, age, beat), op, leases, out);
            }
            PeerMessage::ForwardAbort { id } => self.on_abort(Origin::Peer { node: from, id }, out),
            PeerMessage::Forwarded { id, result } => self.on_forwarded(from, id, result, out),
            PeerMessage::Released { epoch } => {
                leases.released(self.record.id, from, epoch);
                self.claim = None;
                self.again = true;
            }
        }
    }

    fn said(&mut self, from: NodeId, image: ImageId, says: Says) {
        if self.is_on(image, from) {
            let record = &self.record;
            self.peers.says(from, image, says, |id| record.image(id).is_some());
            self.on_said(image, says);
            self.again = true;
        }
    }

    fn show_to(&mut self, from: NodeId, image: ImageId, token: Token, out: &mut Vec<PartAction>) {
        if self.image(image).is_some() {
            self.with_image(image, |image, to| image.show(Asker::Peer(from, token), to));
        } else {
            let incarnation = self.setup.incarnation;
            let message = PeerMessage::Shown { image, token, survey: None, incarnation };
            out.push(PartAction::Send { to: from, message });
        }
    }

    /// What was written to an image of ours, to whoever weighs a forced promotion (M10).
    fn list_to(
        &mut self,
        to: NodeId,
        (image, token): (ImageId, Token),
        (after, from): (Stamp, Extent),
        out: &mut Vec<PartAction>,
    ) {
        if self.image(image).is_some() {
            let request = Request::Changed { after, from };
            self.with_image(image, |image, acts| image.look(Asker::Lister(to, token), request, acts));
        } else {
            out.push(PartAction::Send { to, message: PeerMessage::Listed { image, token, changed: None } });
        }
    }

    /// Whether the image is the node's to speak of.
    fn is_on(&self, image: ImageId, node: NodeId) -> bool {
        self.record.image(image).is_some_and(|image| image.node == node)
    }
}
