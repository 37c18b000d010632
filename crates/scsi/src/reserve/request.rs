//! A command that changes the shared state, until the change is durable on every image in sync, or refused.
//!
//! ```text
//!            state known            written, of the newest edition
//!  attempt ───────────────▶ write ─────────────────────────────────▶ adopted, answered
//!     ▲ │ not known            │ of an older edition: nothing was written
//!     │ └─▶ wait for it ◀──────┤ outcome not known: the state tells, by its serial and author
//!     └──────────┘ ◀───────────┘
//! ```

use dyad_contract::volume::{Edition, VolumeOp};

use crate::nexus::NexusId;
use crate::reserve::change::{Action, Changed};
use crate::reserve::port::Path;
use crate::reserve::shared::Known;
use crate::reserve::state::{State, What};
use crate::response::{Begun, Response, Status, Step};
use crate::sense::{Asc, Condition};
use crate::table::Refusal;
use crate::task::{Phase, Range, Task};
use crate::unit::LogicalUnit;

/// Tries of one command: each was overtaken by another host's change, or by a change of the owner. Whoever is overtaken
/// so often sends its command again.
const ATTEMPTS_MAX: u8 = 8;

/// What is to be done to the state.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// PERSISTENT RESERVE OUT, its RESERVATION KEY and what it asks for.
    Persistent(u64, Action),
    /// RESERVE.
    Reserve,
    /// RELEASE.
    Release,
    /// A nexus with this path was lost.
    Lost(Path),
    /// A LOGICAL UNIT RESET took effect here.
    Reset,
    /// An administrator has everything forgotten; not forced only if nobody can read it.
    Forget { is_forced: bool },
    /// MODE SELECT sets these flags, and clears those.
    Mode { set: u8, clear: u8 },
}

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    request: Request,
    attempts: u8,
    /// What was written last, and from which edition it was made.
    written: Option<(Edition, State)>,
}

impl Share {
    /// The path whose loss it is about.
    pub(crate) fn lost_path(&self) -> Option<&Path> {
        if let Request::Lost(path) = &self.request { Some(path) } else { None }
    }
}

/// The nexus of what the unit does by itself.
const NOBODY: NexusId = NexusId(u64::MAX);

/// A task that carries the request.
pub(crate) fn task(nexus: NexusId, request: Request) -> Task {
    let share = Share { request, attempts: 0, written: None };
    Task { share: Some(Box::new(share)), ..Task::new(nexus, Phase::Share, Range::NONE) }
}

/// A task of the unit itself.
pub(crate) fn own_task(request: Request) -> Task {
    task(NOBODY, request)
}

/// Computes the change from the state as it is known, and has it written.
pub(crate) fn attempt(unit: &mut LogicalUnit, mut task: Task) -> Result<Step, Refusal> {
    let Some(share) = task.share.as_mut() else { return Err(Refusal::Busy) };
    if share.attempts >= ATTEMPTS_MAX {
        return Err(Refusal::Busy);
    }
    let Some(edition) = unit.shared.edition() else { return Ok(Step::State { task }) };
    share.attempts += 1;
    let is_own = |(_, own): &(Edition, State)| {
        let state = unit.shared.state();
        (own.serial, own.author) == (state.serial, state.author)
    };
    if let Some((_, own)) = share.written.take_if(|written| is_own(written)) {
        return Ok(answer(unit, &task, &own));
    }
    let Some(mut next) = changed(unit, task.nexus, &share.request)? else { return Ok(good(&task)) };
    next.author = unit.next_author();
    let too_large = Condition::illegal(Asc::INSUFFICIENT_REGISTRATIONS);
    let data = unit.buffer(&next.encode().map_err(|_| too_large)?)?;
    share.written = Some((edition, next));
    Ok(Step::Volume { task, op: VolumeOp::WriteState { data } })
}

/// The state of that edition cannot be read. Who has it forgotten writes another one in its place; all others need it.
pub(crate) fn anew(unit: &mut LogicalUnit, mut task: Task, edition: Edition) -> Begun {
    let Some(share) = task.share.as_mut().filter(|share| matches!(share.request, Request::Forget { .. })) else {
        return Begun::Answer(unit.ended_early(&task, unit.without_state()));
    };
    share.attempts += 1;
    if share.attempts > ATTEMPTS_MAX {
        return Begun::Answer(Response::status(Status::Busy));
    }
    let next = State { author: unit.next_author(), ..State::anew(edition.next()) };
    let Some(data) = next.encode().ok().and_then(|bytes| unit.buffer(&bytes).ok()) else {
        return Begun::Answer(Response::status(Status::Busy));
    };
    share.written = Some((edition, next));
    Begun::Volume { task, op: VolumeOp::WriteState { data } }
}

fn changed(unit: &LogicalUnit, nexus: NexusId, request: &Request) -> Changed {
    let state = unit.shared.state();
    match request {
        Request::Lost(path) => return Ok(state.without(path)),
        Request::Reset => return Ok(Some(state.reset())),
        Request::Mode { set, clear } => return Ok(state.with_mode(*set, *clear)),
        Request::Forget { is_forced: true } => return Ok(Some(state.forgotten())),
        Request::Forget { is_forced: false } => return Err(Refusal::Conflict),
        _ => {}
    }
    // A transport that does not say who its initiator ports are has none that could hold anything.
    let path = unit.shared.path(nexus).ok_or(Condition::illegal(Asc::INSUFFICIENT_REGISTRATIONS))?;
    match request {
        // SPC-2 §5.5.1: whoever holds the unit by RESERVE has to release it first.
        Request::Persistent(..) if state.reserved.is_some() => Err(Refusal::Conflict),
        Request::Persistent(key, action) => state.persistent(path, *key, action),
        Request::Reserve => state.reserve_unit(path),
        Request::Release => state.release_unit(path),
        Request::Lost(_) | Request::Reset | Request::Forget { .. } | Request::Mode { .. } => Ok(None),
    }
}

/// The state was written.
pub(crate) fn written(unit: &mut LogicalUnit, mut task: Task) -> Step {
    let Some((base, state)) = task.share.as_mut().and_then(|share| share.written.take()) else {
        return Step::Answer(Response::good());
    };
    let step = answer(unit, &task, &state);
    let known = match task.share.as_ref().map(|share| &share.request) {
        Some(Request::Reset) => Known::All,
        Some(Request::Mode { .. }) => Known::By(task.nexus),
        _ => Known::Nobody,
    };
    unit.adopt_own(base, state, known);
    step
}

/// The change to this state is durable.
fn answer(unit: &mut LogicalUnit, task: &Task, state: &State) -> Step {
    let request = task.share.as_ref().map(|share| &share.request);
    if let Some(Request::Persistent(_, Action::Preempt { abort: true, .. })) = request {
        let of_now = state.notices.iter().filter(|notice| notice.serial == state.serial);
        let mut aborted = of_now.filter(|notice| notice.what == What::Aborted);
        let is_elsewhere = aborted.any(|notice| !unit.shared.is_here(notice.whom));
        unit.drains = true;
        unit.drains_elsewhere |= is_elsewhere;
        // Here and now, and not where the change is adopted: the state may be of a newer edition by then, and not known.
        unit.shared.abort_by(state);
    }
    good(task)
}

/// The state is as it was asked for. What the cache held when a host switched it off, or forbade to write, goes to the disks
/// before the host is told (SPC-4 §7.5.8, SBC-3 §6.5.5).
fn good(task: &Task) -> Step {
    match task.share.as_ref().map(|share| &share.request) {
        Some(Request::Mode { set: 1.., .. }) => {
            Step::Volume { task: Task::new(task.nexus, Phase::End, Range::NONE), op: VolumeOp::Flush }
        }
        _ => Step::Answer(Response::good()),
    }
}
