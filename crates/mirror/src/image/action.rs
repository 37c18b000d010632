//! What an image's side asks for.

use dyad_cluster::{OutReason, SegmentRecord};
use dyad_contract::image::{Reply, Request, Survey, Token};
use dyad_units::{Epoch, NodeId};

/// Who wants to know what the image knows, without effects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asker {
    /// This node's part itself.
    Part,
    /// The owner's side on this node.
    Mirror(Token),
    /// Another node.
    Peer(NodeId, Token),
    /// This node's part, for what a forced promotion loses (M10).
    Loss(u64),
    /// Another node, for the same.
    Lister(NodeId, Token),
}

/// What has to be done, in this order.
#[derive(Clone, Debug)]
pub enum ImageAction {
    /// Hand a request to the pool.
    Pool {
        /// Comes back with the reply.
        token: Token,
        /// What it shall do.
        request: Request,
    },
    /// The stream is open.
    Opened {
        /// The owner.
        to: NodeId,
        /// The epoch adopted.
        epoch: Epoch,
        /// The stream's number.
        link: u64,
    },
    /// A stream was refused: a newer owner has been seen, or one that contradicts it.
    Refused {
        /// Who wanted to be owner.
        to: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// The record kept.
        record: Box<SegmentRecord>,
    },
    /// The image cannot be asked: the stream that was wanted will not open.
    Down {
        /// Who wanted it.
        to: NodeId,
        /// Why.
        reason: OutReason,
    },
    /// A request of the open stream was carried out, or failed.
    Told {
        /// The owner.
        to: NodeId,
        /// The stream's number.
        link: u64,
        /// Of the request.
        token: Token,
        /// What it came to.
        reply: Reply,
    },
    /// What the image knows.
    Shown {
        /// Who asked.
        to: Asker,
        /// None: it cannot be asked.
        survey: Option<Box<Survey>>,
    },
    /// What the image answered to [`Image::look`](crate::Image::look).
    Looked {
        /// Who asked.
        to: Asker,
        /// None: it cannot be asked.
        reply: Option<Reply>,
    },
    /// The image keeps a newer record durably.
    Adopted {
        /// Its epoch.
        epoch: Epoch,
    },
    /// The pool answered for the first time: what the image knew when it opened.
    Came {
        /// All of it.
        survey: Box<Survey>,
    },
}
