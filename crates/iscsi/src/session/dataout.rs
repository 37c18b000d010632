//! Data-out: immediate, unsolicited and solicited (RFC 7143 §4.2.4, §11.7, §11.8).
//!
//! ```text
//!  Command [+ immediate data]  ─▶  Event::Command
//!                              ◀─  solicit(len)
//!  Data-Out, unsolicited … F   ─▶
//!                              ◀─  R2T, R2T            (up to MaxOutstandingR2T, MaxBurstLength each)
//!  Data-Out … F, Data-Out … F  ─▶  Event::DataOut
//! ```
//!
//! R2Ts are given out within a budget, oldest command first; a command reserves all it lacks at once, so no two of
//! them can wait for each other. When data goes wrong the node is told to forget the command, and the host gets its
//! answer once it has sent the rest.

use dyad_payload::Payload;

use super::{Io, Session, small_pieces};
use crate::event::{Event, TaskTag};
use crate::pdu::{Bhs, DataOut, NO_TAG, R2t, RejectReason};
use crate::tasks::{DataFault, Tasks};

impl Session {
    /// The node knows how much the command takes.
    pub fn solicit(&mut self, tag: TaskTag, len: u32, io: &mut Io<'_>) {
        let Some(task) = self.tasks.find_mut(tag) else { return };
        if task.fault.is_some() || task.out.wanted.is_some() {
            return;
        }
        task.transfer_len = len;
        task.out.wanted = Some(len.min(task.out_len));
        self.go_on(tag, io);
    }

    /// After anything changed for a task: hand its data over, ask for more, or answer what waited for its end.
    fn go_on(&mut self, tag: TaskTag, io: &mut Io<'_>) {
        let Some(task) = self.tasks.find_mut(tag) else { return };
        if !task.is_with_node() {
            return self.settle(tag, io);
        }
        if task.is_data_complete() {
            let data = std::mem::take(&mut task.out.data);
            let wanted = task.out.wanted.unwrap_or(0) as usize;
            let data = if data.len() > wanted { data.slice(0, wanted) } else { data };
            // Handed over: a later Data-Out belongs to nothing.
            task.out.wanted = Some(0);
            io.events.push_back(Event::DataOut { task: tag, data });
            return;
        }
        let Some(wanted) = task.out.wanted else { return };
        if task.out.is_unsolicited_open || task.out.is_waiting {
            return;
        }
        if task.out.reserved > 0 {
            return self.send_r2ts(tag, io);
        }
        let lacking = wanted - task.out.data.len() as u32;
        if !self.waiting.is_empty() || !self.has_budget(lacking, io) {
            self.tasks.find_mut(tag).expect("found before").out.is_waiting = true;
            self.waiting.push_back(tag);
            return;
        }
        self.begin_soliciting(tag, lacking, io);
    }

    /// A single command larger than the budget passes when nothing else is in it.
    fn has_budget(&self, lacking: u32, io: &Io<'_>) -> bool {
        self.reserved == 0 || self.reserved + u64::from(lacking) <= io.settings.solicited_bytes_max
    }

    /// Gives out R2Ts to those that waited, in order.
    pub(super) fn solicit_waiting(&mut self, io: &mut Io<'_>) {
        while let Some(&tag) = self.waiting.front() {
            let Some(task) = self.tasks.find_mut(tag) else {
                self.waiting.pop_front();
                continue;
            };
            let lacking = task.out.wanted.unwrap_or(0).saturating_sub(task.out.data.len() as u32);
            if !self.has_budget(lacking, io) {
                return;
            }
            self.waiting.pop_front();
            self.tasks.find_mut(tag).expect("found before").out.is_waiting = false;
            self.begin_soliciting(tag, lacking, io);
        }
    }

    fn begin_soliciting(&mut self, tag: TaskTag, lacking: u32, io: &mut Io<'_>) {
        let task = self.tasks.find_mut(tag).expect("the caller found it");
        task.out.reserved = lacking;
        self.reserved += u64::from(lacking);
        task.out.asked = task.out.data.len() as u32;
        task.out.burst_start = task.out.asked;
        task.out.data_sn = 0;
        self.send_r2ts(tag, io);
    }

    fn send_r2ts(&mut self, tag: TaskTag, io: &mut Io<'_>) {
        loop {
            let numbers = self.numbers_unused();
            let (outstanding_max, burst_max) = (self.parameters.outstanding_r2ts_max, self.parameters.burst_bytes_max);
            let task = self.tasks.find_mut(tag).expect("the caller found it");
            let out = &mut task.out;
            let left = out.wanted.unwrap_or(0).saturating_sub(out.asked);
            if left == 0 || out.bursts_open >= outstanding_max {
                return;
            }
            let r2t = R2t {
                lun: task.lun,
                task_tag: task.task_tag,
                transfer_tag: Tasks::transfer_tag(tag),
                numbers,
                r2t_sn: out.r2t_sn,
                offset: out.asked,
                len: left.min(burst_max),
            };
            out.asked += r2t.len;
            out.r2t_sn += 1;
            out.bursts_open += 1;
            if out.bursts_open == 1 {
                self.data_open += 1;
            }
            self.data_moved = true;
            io.output.push(r2t.emit());
        }
    }

    /// Data-Out. What belongs to no task, or to one that was aborted, is dropped: its host sent it before it knew.
    pub(super) fn on_data_out(
        &mut self,
        bhs: &Bhs,
        data: Payload,
        is_right: bool,
        io: &mut Io<'_>,
    ) -> Result<(), crate::event::CloseReason> {
        let Ok(pdu) = DataOut::parse(bhs) else { return Ok(()) };
        if !is_right {
            self.reject(bhs, RejectReason::DataDigest, io); // §7.8
        }
        let is_solicited = pdu.transfer_tag != NO_TAG;
        let found = match is_solicited {
            true => self.tasks.by_transfer_tag(pdu.transfer_tag),
            false => self.tasks.by_task_tag(pdu.task_tag),
        };
        let Some(tag) = found else { return Ok(()) };
        let burst_max = self.parameters.burst_bytes_max;
        let first_burst_max = self.parameters.first_burst_bytes_max;
        let task = self.tasks.find_mut(tag).expect("just found");
        let is_expected = if is_solicited { task.out.bursts_open > 0 } else { task.out.is_unsolicited_open };
        if task.task_tag != pdu.task_tag || !is_expected {
            return Ok(());
        }
        self.data_moved = true;
        let had_fault = task.fault.is_some();
        let out = &mut task.out;
        let end = match is_solicited {
            true => out.asked.min(out.burst_start.saturating_add(burst_max)),
            false => first_burst_max.min(task.out_len),
        };
        let received = out.data.len() as u32;
        let fault = if !is_right || pdu.data_sn != out.data_sn {
            Some(DataFault::Lost)
        } else if pdu.offset != received || data.len() > (end - end.min(received)) as usize {
            Some(DataFault::WrongAmount)
        } else {
            None
        };
        out.data_sn = out.data_sn.wrapping_add(1);
        // Data of a command that was answered or failed is not kept.
        if fault.is_none() && task.fault.is_none() && task.held.is_none() {
            task.out.data.append(data);
        }
        task.fault = task.fault.or(fault);
        let is_short = (task.out.data.len() as u32) < end;
        if pdu.is_final && is_solicited && is_short && task.is_with_node() {
            task.fault = Some(DataFault::WrongAmount);
        }
        if pdu.is_final {
            self.end_sequence(tag, is_solicited, end);
        }
        self.after_data(tag, had_fault, io);
        let small = self.tasks.find(tag).map_or(0, |task| small_pieces(&task.out.data));
        self.check_pieces(small)
    }

    fn end_sequence(&mut self, tag: TaskTag, is_solicited: bool, end: u32) {
        let task = self.tasks.find_mut(tag).expect("the caller found it");
        task.out.data_sn = 0;
        if is_solicited {
            task.out.bursts_open -= 1;
            task.out.burst_start = end;
        } else {
            task.out.is_unsolicited_open = false;
        }
        if !task.is_data_open() {
            self.data_open -= 1;
        }
    }

    fn after_data(&mut self, tag: TaskTag, had_fault: bool, io: &mut Io<'_>) {
        let task = self.tasks.find_mut(tag).expect("the caller found it");
        if task.fault.is_some() && !had_fault {
            task.out.data = Payload::new();
            // The node hears of it at once, unless it has answered already.
            if task.held.is_none() {
                io.events.push_back(Event::DataOutFailed { task: tag });
            }
        }
        self.go_on(tag, io);
    }
}
