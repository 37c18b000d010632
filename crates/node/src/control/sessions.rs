//! Hosts' sessions, at whatever node they are.

use std::time::Duration;

use super::images::find_node;
use super::{CloseSessionError, NodeHandle, QueryError};
use crate::reactor::Message;
use crate::talk::{Refused, Told, refusal};

/// How long another node may take to close a session: its reactor does so between two commands.
const CLOSE_MAX: Duration = Duration::from_secs(5);

impl NodeHandle {
    /// Closes a host's session at a node, of this name or id; the host may come back at once.
    ///
    /// # Errors
    /// See [`CloseSessionError`].
    pub fn close_session(&self, node: &str, id: u64) -> Result<(), CloseSessionError> {
        let now = self.own_status()?;
        let unknown = |kind, name: &str| QueryError::Unknown { kind, name: name.to_owned() };
        let at = find_node(&now, node).map_err(|_| unknown("node", node))?;
        let gone = || Err(unknown("session", &format!("{node}:{id}")).into());
        if at == now.node.id {
            return if self.ask(|reply| Message::CloseSession { id, reply })? { Ok(()) } else { gone() };
        }
        match self.orders().hasty(CLOSE_MAX).close_session(at, id) {
            Told::Done => Ok(()),
            Told::Refused(Refused { is_passing: false, .. }) => gone(),
            Told::Refused(refused) => Err(CloseSessionError::NotDone { node: node.to_owned(), why: refused.why }),
            _ => {
                let why = "it runs another version of the program, which cannot be asked for that".to_owned();
                Err(CloseSessionError::NotDone { node: node.to_owned(), why })
            }
        }
    }

    /// The part of the node that has it, for another one.
    pub(crate) fn close_session_here(&self, id: u64) -> Told {
        match self.ask(|reply| Message::CloseSession { id, reply }) {
            Ok(true) => Told::Done,
            Ok(false) => Told::Refused(Refused {
                why: "it has no such session".into(),
                owner: None,
                is_passing: false,
                advice: None,
            }),
            Err(error) => refusal(&error.to_string()),
        }
    }
}
