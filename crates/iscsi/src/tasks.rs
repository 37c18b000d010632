//! The tasks in flight of a session: a slab that is filled once, at the start of full feature phase.

use dyad_payload::Payload;

use crate::event::TaskTag;
use crate::pdu::NO_TAG;

/// Commands for immediate delivery that may be in flight beside the window. More are rejected (§4.2.2.1 asks for
/// at least two).
pub(crate) const IMMEDIATE_MAX: u16 = 16;

/// Bits of a target transfer tag that hold the slot; the others hold part of the serial.
const SLOT_BITS: u32 = 11;

/// Largest queue depth: slots fit their bits, and no transfer tag is all ones.
pub(crate) const QUEUE_DEPTH_MAX: u16 = 1024;

/// What went wrong with data-out (RFC 7143 §11.4.7.2, iSCSI condition).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DataFault {
    /// Data came that was neither solicited nor allowed unsolicited.
    Unexpected,
    /// Too much or too little.
    WrongAmount,
    /// A digest failed, or a PDU is missing from its sequence.
    Lost,
    /// Bidirectional, or a CDB longer than 16 bytes: no command of ours. Not of the table.
    NotSupported,
}

/// An answer that waits until the host has sent the data it may be sending (§11.4.2).
#[derive(Debug)]
pub(crate) struct Held {
    pub status: u8,
    pub sense: Vec<u8>,
    pub data_in: Payload,
}

/// Data-out of a task. Bytes come in order (DataPDUInOrder and DataSequenceInOrder are Yes), so one count says
/// what is there.
#[derive(Debug, Default)]
pub(crate) struct DataOutState {
    /// What came, in order.
    pub data: Payload,
    /// Unsolicited Data-Out PDUs are still to come.
    pub is_unsolicited_open: bool,
    /// What the command takes of what the host offers; `None` until it is known.
    pub wanted: Option<u32>,
    /// End of what was asked for by R2Ts.
    pub asked: u32,
    /// Start of the burst that is coming in.
    pub burst_start: u32,
    /// R2Ts not yet satisfied.
    pub bursts_open: u16,
    /// Next DataSN of the sequence that is coming in.
    pub data_sn: u32,
    /// Next R2TSN.
    pub r2t_sn: u32,
    /// Counted in the session's budget of solicited bytes.
    pub reserved: u32,
    /// It waits in line for that budget.
    pub is_waiting: bool,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Task {
    pub serial: u32,
    /// The initiator's tag.
    pub task_tag: u32,
    pub lun: u64,
    pub is_immediate: bool,
    /// Bytes of data-in that the host expects.
    pub in_len: u32,
    /// Bytes of data-out that it offers.
    pub out_len: u32,
    /// Bytes of data-out that the command would take: more or less than offered.
    pub transfer_len: u32,
    pub out: DataOutState,
    /// Counted in the session's bound on output.
    pub promised: u64,
    /// The data went wrong, so the node is out of it; the answer goes out when the host stopped sending.
    pub fault: Option<DataFault>,
    /// The node answered while the host was still sending.
    pub held: Option<Box<Held>>,
}

impl Task {
    /// Whether the node still has to answer it.
    pub fn is_with_node(&self) -> bool {
        self.fault.is_none() && self.held.is_none()
    }

    /// Whether the host may still be sending data for it.
    pub fn is_data_open(&self) -> bool {
        self.out.is_unsolicited_open || self.out.bursts_open > 0
    }
}

/// The slab.
#[derive(Debug)]
pub(crate) struct Tasks {
    slots: Vec<Option<Task>>,
    /// The initiator's tag per slot, apart from the tasks so that a search reads little; NO_TAG if free.
    tags: Vec<u32>,
    free: Vec<u16>,
    serial: u32,
    queued: u16,
    immediate: u16,
}

impl Tasks {
    pub fn new(queue_depth: u16) -> Self {
        let slots = queue_depth + IMMEDIATE_MAX;
        Self {
            slots: (0..slots).map(|_| None).collect(),
            tags: vec![NO_TAG; usize::from(slots)],
            free: (0..slots).rev().collect(),
            serial: 0,
            queued: 0,
            immediate: 0,
        }
    }

    /// Places in the window.
    pub fn window(&self) -> u16 {
        self.slots.len() as u16 - IMMEDIATE_MAX
    }

    /// Tasks that take a place in the window.
    pub fn queued(&self) -> u16 {
        self.queued
    }

    pub fn may_add_immediate(&self) -> bool {
        self.immediate < IMMEDIATE_MAX
    }

    /// Adds a task. The caller has checked that there is room: the window, or `may_add_immediate`.
    pub fn add(&mut self, task_tag: u32, lun: u64, is_immediate: bool, in_len: u32, out_len: u32) -> TaskTag {
        let slot = self.free.pop().expect("the window leaves a slot");
        self.serial = self.serial.wrapping_add(1);
        *(if is_immediate { &mut self.immediate } else { &mut self.queued }) += 1;
        self.tags[usize::from(slot)] = task_tag;
        self.slots[usize::from(slot)] = Some(Task {
            serial: self.serial,
            task_tag,
            lun,
            is_immediate,
            in_len,
            out_len,
            transfer_len: 0,
            out: DataOutState::default(),
            promised: 0,
            fault: None,
            held: None,
        });
        TaskTag { slot, serial: self.serial }
    }

    pub fn find(&self, tag: TaskTag) -> Option<&Task> {
        self.slots.get(tag.slot())?.as_ref().filter(|task| task.serial == tag.serial)
    }

    pub fn find_mut(&mut self, tag: TaskTag) -> Option<&mut Task> {
        self.slots.get_mut(tag.slot())?.as_mut().filter(|task| task.serial == tag.serial)
    }

    pub fn remove(&mut self, tag: TaskTag) -> Option<Task> {
        self.find(tag)?;
        let task = self.slots[tag.slot()].take()?;
        self.tags[tag.slot()] = NO_TAG;
        self.free.push(tag.slot);
        *(if task.is_immediate { &mut self.immediate } else { &mut self.queued }) -= 1;
        Some(task)
    }

    /// The task with this initiator task tag.
    pub fn by_task_tag(&self, task_tag: u32) -> Option<TaskTag> {
        if task_tag == NO_TAG {
            return None;
        }
        let slot = self.tags.iter().position(|&tag| tag == task_tag)?;
        self.tag_at(slot)
    }

    /// The tag under which a task's data is asked for.
    pub fn transfer_tag(tag: TaskTag) -> u32 {
        tag.serial << SLOT_BITS | u32::from(tag.slot)
    }

    /// The task whose data is asked for under this tag.
    pub fn by_transfer_tag(&self, transfer_tag: u32) -> Option<TaskTag> {
        let slot = (transfer_tag & ((1 << SLOT_BITS) - 1)) as usize;
        self.tag_at(slot).filter(|&tag| Self::transfer_tag(tag) == transfer_tag)
    }

    /// All tags, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (TaskTag, &Task)> + '_ {
        let tasks = self.slots.iter().enumerate();
        tasks.filter_map(|(slot, task)| {
            let task = task.as_ref()?;
            Some((TaskTag { slot: slot as u16, serial: task.serial }, task))
        })
    }

    fn tag_at(&self, slot: usize) -> Option<TaskTag> {
        let task = self.slots.get(slot)?.as_ref()?;
        Some(TaskTag { slot: slot as u16, serial: task.serial })
    }
}

const _: () = assert!(((QUEUE_DEPTH_MAX + IMMEDIATE_MAX) as u32) < (1 << SLOT_BITS) - 1);

#[cfg(test)]
mod tests {
    use super::Tasks;

    #[test]
    fn a_tag_is_good_for_one_task_only() {
        let mut tasks = Tasks::new(1);
        let first = tasks.add(7, 0, false, 0, 0);
        assert_eq!(tasks.by_task_tag(7), Some(first));
        assert_eq!(tasks.by_transfer_tag(Tasks::transfer_tag(first)), Some(first));
        assert!(tasks.remove(first).is_some());
        assert!(tasks.remove(first).is_none());
        let second = tasks.add(7, 0, false, 0, 0);
        assert_eq!(first.slot(), second.slot());
        assert!(tasks.find(first).is_none());
        assert!(tasks.find_mut(first).is_none());
        assert_eq!(tasks.by_transfer_tag(Tasks::transfer_tag(first)), None);
        assert_eq!(tasks.iter().map(|(tag, _)| tag).collect::<Vec<_>>(), [second]);
        assert_eq!(tasks.queued(), 1);
    }
}
