//! The logical unit: the doors, and what is asked of every command before its own handler.

use dyad_contract::volume::VolumeResult;
use dyad_payload::{Payload, Slab};
use dyad_units::{Bytes, VolumeId};

use crate::copy::{self, Copies, Unreached};
use crate::echo::Echo;
use crate::groups::{Moving, PortGroup};
use crate::lba_status::Run;
use crate::log::Provisioning;
use crate::nexus::{Attention, NexusId, Nexuses, TooManyNexuses, Who};
use crate::reserve::request::{self, Request};
use crate::reserve::shared::Shared;
use crate::response::{Begun, Response, Status, Step, Transfer};
use crate::sense::{Asc, Condition, Sense, SenseFormat, SenseKey};
use crate::shape::{Limits, Shape, SizeError};
use crate::table::{self, CDB_BYTES, Call, Command, Refusal};
use crate::task::{Phase, Task};
use crate::{absent, lba_status, steps};

/// Who the logical unit says that it is. The same on every node that serves the volume (M18), but for the
/// port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The volume: source of the designators that hosts tell volumes apart by.
    pub volume: VolumeId,
    /// iSCSI name of the target device; at most 223 bytes (RFC 7143 §4.2.7.1), more is cut off.
    pub target_name: String,
    /// Relative target port identifier, from 1.
    pub target_port: u16,
    /// Target port group: the node's, and the transport's portal group tag.
    pub target_port_group: u16,
}

/// What a logical unit is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its identity.
    pub identity: Identity,
    /// Its size and blocks.
    pub shape: Shape,
    /// WCE: whether a write may be acknowledged before it is durable (A1); otherwise every write is (A2).
    pub write_cache: bool,
    /// Whether hosts may only read.
    pub read_only: bool,
}

/// The device server of one volume.
pub struct LogicalUnit {
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) nexuses: Nexuses,
    /// By START STOP UNIT; nothing of it is remembered beyond this life.
    pub(crate) stopped: bool,
    /// As the node knows the others; empty before its first word.
    pub(crate) groups: Vec<PortGroup>,
    pub(crate) moving: Option<Moving>,
    /// As the node said last.
    pub(crate) provisioning: Option<Provisioning>,
    pub(crate) echo: Echo,
    pub(crate) copies: Copies,
    pub(crate) shared: Shared,
    /// Commands of other nexuses have to be given up before the answer that was just given goes out.
    pub(crate) drains: bool,
    /// Some of these nexuses are at other nodes.
    pub(crate) drains_elsewhere: bool,
    /// Name of the last change of the shared state that this unit tried.
    pub(crate) changes: u64,
    pub(crate) slab: Slab,
}

impl LogicalUnit {
    /// A started logical unit without nexuses. Parameter data are built in buffers of `slab`.
    pub fn new(settings: Settings, slab: Slab) -> Self {
        let limits = Limits::of(settings.shape.block());
        let changes = u64::from(settings.identity.target_port) << 48;
        Self {
            settings,
            limits,
            nexuses: Nexuses::default(),
            stopped: false,
            groups: Vec::new(),
            moving: None,
            provisioning: None,
            echo: Echo::default(),
            copies: Copies::default(),
            shared: Shared::default(),
            drains: false,
            drains_elsewhere: false,
            changes,
            slab,
        }
    }

    /// A session began. `first` waits for its first command: [`Attention::PowerOn`], as a rule.
    ///
    /// # Errors
    /// [`TooManyNexuses`] over [`crate::NEXUSES_MAX`].
    pub fn add_nexus(&mut self, nexus: NexusId, first: Option<Attention>) -> Result<(), TooManyNexuses> {
        self.nexuses.add(nexus)?;
        if let Some(first) = first {
            self.nexuses.attend(Who::Only(nexus), first);
        }
        Ok(())
    }

    /// A session ended: what waited for its nexus is forgotten. A task is handed back where the shared state has to hear
    /// of it: see [`Self::again`]; nobody waits for its answer.
    pub fn remove_nexus(&mut self, nexus: NexusId) -> Option<Task> {
        self.nexuses.remove(nexus);
        self.copies.forget(nexus);
        self.moving.take_if(|(asker, _)| *asker == nexus);
        let lost = self.reserved_by(nexus);
        self.shared.unname(nexus);
        lost.map(request::own_task)
    }

    /// Count of nexuses.
    pub fn nexuses(&self) -> usize {
        self.nexuses.len()
    }

    /// Begins a command. `lun` is the LUN field of the transport's command, all eight bytes (SAM-5 §4.7);
    /// `cdb` the CDB, whatever bytes behind a short one; `transfer` what the transport announced.
    #[inline]
    pub fn begin(&mut self, nexus: NexusId, lun: u64, cdb: &[u8; CDB_BYTES], transfer: Transfer) -> Begun {
        let call = Call { nexus, cdb, transfer };
        let begun = match is_lun_zero(lun) {
            true if self.is_hidden_from(nexus) => self.run_hidden(&call),
            true => self.run(&call, false),
            false => absent::begin(self, &call),
        };
        begun.unwrap_or_else(|refusal| Begun::Answer(self.refuse(refusal)))
    }

    /// `is_fresh`: the shared state was read since the command came.
    pub(crate) fn run(&mut self, call: &Call<'_>, is_fresh: bool) -> Result<Begun, Refusal> {
        let row = table::find(call.cdb);
        if self.nexuses.is_waiting() {
            self.check_attention(call.nexus, row.ok().map(table::Row::command))?;
        }
        let row = row?;
        let command = row.command();
        if self.stopped || self.settings.read_only {
            self.check_access(command)?;
        }
        if self.nexuses.is_restricted() {
            self.check_right(call.nexus, call, command)?;
        }
        command.check(row, call.cdb)?;
        if (!self.shared.is_open() || command.shares)
            && let Some(waits) = self.check_reservation(call, command, is_fresh)?
        {
            return Ok(waits);
        }
        let mut begun = (command.run)(self, call)?;
        if let Begun::DataOut { task, .. } | Begun::Volume { task, .. } | Begun::Node { task, .. } = &mut begun {
            task.rule = command.rule();
        }
        Ok(begun)
    }

    /// The data-out that [`Begun::DataOut`] asked for, or as much of it as the transport has.
    ///
    /// # Panics
    /// If the task waits for the volume: a fault of the caller.
    pub fn data_out(&mut self, task: Task, data: Payload) -> Step {
        if !self.shared.is_open() && self.is_kept_out(&task) {
            return Step::Answer(Response::status(Status::ReservationConflict));
        }
        steps::data_out(self, task, data).unwrap_or_else(|refusal| Step::Answer(self.refuse(refusal)))
    }

    /// The volume's answer to what was asked last.
    ///
    /// # Panics
    /// If the task waits for data-out, or a read was answered without its bytes: a fault of the caller.
    pub fn finish(&mut self, task: Task, result: VolumeResult) -> Step {
        steps::finish(self, task, result).unwrap_or_else(|refusal| Step::Answer(self.refuse(refusal)))
    }

    /// What the node found of a [`crate::NodeOp::Look`].
    ///
    /// # Panics
    /// If the task asked for something else: a fault of the caller.
    pub fn looked(&mut self, task: Task, runs: &[Run]) -> Step {
        let Phase::Look { allocation } = task.phase else { panic!("a look for a task in phase {:?}", task.phase) };
        let answer = lba_status::answer(self, task.range, allocation, runs);
        answer.unwrap_or_else(|refusal| Step::Answer(self.refuse(refusal)))
    }

    /// How a [`crate::NodeOp::Errand`] ended: what the other unit answered, or why nobody was asked.
    ///
    /// # Panics
    /// If the task asked for something else, or a read of another length came back: a fault of the caller.
    pub fn ran(&mut self, task: Task, ended: Result<Response, Unreached>) -> Step {
        copy::ran(self, task, ended)
    }

    /// A [`crate::NodeOp::Pause`] is over.
    ///
    /// # Panics
    /// If the task asked for something else: a fault of the caller.
    pub fn paused(&mut self, task: Task) -> Step {
        copy::paused(self, task)
    }

    /// A unit attention for some nexuses.
    pub fn attend(&mut self, who: Who, what: Attention) {
        self.nexuses.attend(who, what);
    }

    /// A LOGICAL UNIT RESET or a target reset took effect: the caller has dropped all tasks. Back to the
    /// state after a start; every nexus learns it (SAM-5 §6.3.3). The task tells the other nodes: see [`Self::again`];
    /// the reset is answered after it.
    pub fn reset(&mut self) -> Task {
        self.stopped = false;
        self.copies = Copies::default();
        self.nexuses.attend(Who::All, Attention::DeviceReset);
        request::own_task(Request::Reset)
    }

    /// Size and blocks.
    pub fn shape(&self) -> Shape {
        self.settings.shape
    }

    /// The volume was resized; every nexus learns it.
    ///
    /// # Errors
    /// [`SizeError`] if a volume cannot have that size.
    pub fn resize(&mut self, size: Bytes) -> Result<(), SizeError> {
        let shape = Shape::new(self.settings.shape.block(), size)?;
        if shape == self.settings.shape {
            return Ok(());
        }
        self.settings.shape = shape;
        self.nexuses.attend(Who::All, Attention::CapacityChanged);
        Ok(())
    }

    /// The write cache was switched by the administrator; every nexus learns it. Switching it off does not
    /// flush what was acknowledged before: the caller does.
    pub fn set_write_cache(&mut self, write_cache: bool) {
        if self.settings.write_cache != write_cache {
            self.settings.write_cache = write_cache;
            self.nexuses.attend(Who::All, Attention::ModeParametersChanged);
        }
    }

    /// A unit attention is reported instead of carrying the command out, and is thereby cleared (SAM-5
    /// §5.14.1).
    #[cold]
    pub(crate) fn check_attention(&mut self, nexus: NexusId, command: Option<&Command>) -> Result<(), Refusal> {
        if command.is_some_and(|command| command.under_attention) {
            return Ok(());
        }
        match self.nexuses.take(nexus) {
            None => Ok(()),
            Some(attention) => Err(attention_condition(attention).into()),
        }
    }

    #[cold]
    fn check_access(&self, command: &Command) -> Result<(), Refusal> {
        if self.stopped && command.needs_ready {
            return Err(Condition::new(SenseKey::NotReady, Asc::START_REQUIRED).into());
        }
        if self.settings.read_only && command.writes {
            return Err(Condition::new(SenseKey::DataProtect, Asc::WRITE_PROTECTED).into());
        }
        Ok(())
    }

    pub(crate) fn refuse(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Check(condition) => self.check_condition(condition),
            Refusal::Busy => Response::status(Status::Busy),
            Refusal::Conflict => Response::status(Status::ReservationConflict),
        }
    }

    pub(crate) fn check_condition(&self, condition: Condition) -> Response {
        // D_SENSE is zero and not changeable (see `mode`).
        Response::check(Sense::new(condition, SenseFormat::Fixed))
    }

    /// Answers with parameter data, cut to the allocation length.
    pub(crate) fn reply(&self, data: &[u8], allocation: usize) -> Result<Begun, Refusal> {
        Ok(Begun::Answer(Response::data(self.buffer(&data[..data.len().min(allocation)])?)))
    }

    /// As [`Self::reply`], later.
    pub(crate) fn reply_step(&self, data: &[u8], allocation: usize) -> Result<Step, Refusal> {
        Ok(Step::Answer(Response::data(self.buffer(&data[..data.len().min(allocation)])?)))
    }

    /// A copy of a few bytes in a buffer; BUSY while there is none.
    pub(crate) fn buffer(&self, bytes: &[u8]) -> Result<Payload, Refusal> {
        if bytes.is_empty() {
            return Ok(Payload::new());
        }
        self.slab.copy_of(bytes).map(Payload::from).map_err(|_| Refusal::Busy)
    }

    /// WCE: the administrator has it on, and no host switched it off.
    pub(crate) const fn has_write_cache(&self) -> bool {
        self.settings.write_cache && !self.shared.is_cache_off()
    }

    /// Whether a write has to be durable before it is answered (A2).
    pub(crate) fn is_durable(&self, fua: bool) -> bool {
        fua || !self.has_write_cache()
    }
}

/// UNIT ATTENTION with the attention's code.
pub(crate) const fn attention_condition(attention: Attention) -> Condition {
    Condition::new(SenseKey::UnitAttention, attention.asc())
}

/// LUN 0 in peripheral device or flat space addressing (SAM-5 §4.7.5, §4.7.6).
#[inline]
const fn is_lun_zero(lun: u64) -> bool {
    lun & !(0x4000 << 48) == 0
}
