//! The login phase (RFC 7143 §6.3): a few requests, each answered at once, from the connection to full feature
//! phase. One type per step; a step is consumed by what it waits for.
//!
//! ```text
//!  First ──Login──▶ Admission ──admit──▶ Security ─▶ Operational ──SessionReady──▶ Ready ──start──▶ done
//!    (text arrives)  (the node)          (proof)     (parameters)   (the node)
//! ```
//!
//! Nobody has proved anything here, so everything is small and has a bound: the constants below and in `login_text`.

use std::num::NonZeroU16;

use crate::chap::{ChapError, ExpectAlgorithm, ExpectProof};
use crate::event::{
    Admission, Auth, ChapAuth, Event, LoginRefusal, LoginRequest, PortalAddress, SessionKey, SessionKind,
};
use crate::login_text::RequestText;
use crate::negotiate::{self, NegotiationError, Offers, Parameters};
use crate::pdu::{self, Numbers, Stage};
use crate::settings::Settings;
use crate::text::TextWriter;
use crate::tx::Output;

/// Data segments in login have at most so many bytes (RFC 7143 §13.12: the default before anything is declared).
pub(crate) const LOGIN_SEGMENT_BYTES_MAX: u32 = 8192;

/// Text that one login may send, in bytes; ordinary ones send less than one.
const LOGIN_TEXT_BYTES_MAX: u32 = 64 << 10;

/// Requests that one login may take; CHAP with negotiation takes four.
const LOGIN_REQUESTS_MAX: u8 = 32;

/// Everything that outlives a step.
#[derive(Debug)]
struct Common {
    stat_sn: u32,
    cmd_sn: u32,
    text_bytes: u32,
    requests: u8,
    offers: Offers,
    agreed: Parameters,
    /// Target portal group and alias, to be shown in the first response.
    to_show: Option<(u16, Option<String>)>,
    has_declared: bool,
    is_discovery: bool,
    key: Option<SessionKey>,
    cid: u16,
}

/// A request that is complete.
#[derive(Debug)]
struct Request {
    header: pdu::LoginRequest,
    text: RequestText,
}

#[derive(Debug)]
enum Step {
    First,
    Admission(Box<Request>),
    Security(Proof),
    Operational,
    /// The last response, but for the session handle.
    Ready(pdu::LoginRequest, TextWriter),
}

/// How far the proof is.
#[derive(Debug)]
enum Proof {
    /// None is needed, or it was given.
    Done {
        /// The initiator may still name a method.
        may_choose_none: bool,
    },
    Method(Box<ChapAuth>),
    Algorithm(ExpectAlgorithm),
    Response(ExpectProof),
}

/// What full feature phase begins with.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub parameters: Parameters,
    pub key: SessionKey,
    pub cid: u16,
    pub stat_sn: u32,
    pub cmd_sn: u32,
}

/// A login under way.
#[derive(Debug)]
pub(crate) struct Login {
    common: Common,
    step: Option<Step>,
    /// Header of the request whose text is arriving, or that was answered last: refusals copy from it.
    header: Option<pdu::LoginRequest>,
    text: RequestText,
}

impl Login {
    pub fn new() -> Self {
        Self {
            common: Common {
                stat_sn: 0,
                cmd_sn: 0,
                text_bytes: 0,
                requests: 0,
                offers: Offers::default(),
                agreed: Parameters::default(),
                to_show: None,
                has_declared: false,
                is_discovery: false,
                key: None,
                cid: 0,
            },
            step: Some(Step::First),
            header: None,
            text: RequestText::default(),
        }
    }

    /// Whether the node has to answer before anything else is read.
    pub fn is_waiting(&self) -> bool {
        matches!(self.step, None | Some(Step::Admission(_) | Step::Ready(..)))
    }

    /// A request's header.
    pub fn on_header(&mut self, header: pdu::LoginRequest, len: u32) -> Result<(), LoginRefusal> {
        let is_first = self.header.is_none();
        self.header = Some(header);
        if is_first {
            self.common.cmd_sn = header.cmd_sn;
            self.common.cid = header.cid;
        }
        self.common.requests += 1;
        self.common.text_bytes += len;
        if self.common.requests > LOGIN_REQUESTS_MAX || self.common.text_bytes > LOGIN_TEXT_BYTES_MAX {
            return Err(LoginRefusal::InitiatorError);
        }
        if header.version_min > 0 {
            return Err(LoginRefusal::UnsupportedVersion);
        }
        // §11.12.2, §11.12.3: T and C exclude each other; the next stage is a later one, and both exist.
        let is_backwards = header.transit.is_some_and(|next| next <= header.stage || header.is_continued);
        if is_backwards || header.stage == Stage::FullFeature {
            return Err(LoginRefusal::InitiatorError);
        }
        let is_here = match &self.step {
            Some(Step::First) => true,
            Some(Step::Security(_)) => header.stage == Stage::Security,
            Some(Step::Operational) => header.stage == Stage::Operational,
            _ => false,
        };
        if is_here { Ok(()) } else { Err(LoginRefusal::InvalidRequest) }
    }

    /// Part of its text.
    pub fn on_text(&mut self, bytes: &[u8]) -> Result<(), LoginRefusal> {
        self.text.feed(bytes, &mut self.common.offers)
    }

    /// The PDU is complete.
    pub fn on_end(&mut self, settings: &Settings, output: &mut Output) -> Result<Option<Event>, LoginRefusal> {
        let header = self.header.ok_or(LoginRefusal::InitiatorError)?;
        if header.is_continued {
            // §6.2: each part is answered with an empty response that asks for the next.
            self.common.reply(&header, None, &TextWriter::default(), settings, output);
            return Ok(None);
        }
        self.text.finish(&mut self.common.offers)?;
        let request = Request { header, text: std::mem::take(&mut self.text) };
        match self.step.take() {
            Some(Step::First) => self.first(request),
            Some(Step::Security(proof)) => self.security(proof, request, settings, output),
            Some(Step::Operational) => self.operational(request, settings, output),
            _ => Err(LoginRefusal::InvalidRequest),
        }
    }

    /// Who wants what: the node decides.
    fn first(&mut self, mut request: Request) -> Result<Option<Event>, LoginRefusal> {
        if request.header.tsih != 0 {
            // A connection more for a session, or a reinstated one: MaxConnections is 1 and ErrorRecoveryLevel 0.
            return Err(LoginRefusal::SessionDoesNotExist);
        }
        let names = &mut request.text;
        let initiator = names.initiator.take().ok_or(LoginRefusal::MissingParameter)?;
        let kind = match names.session_type.as_deref() {
            None | Some("Normal") => {
                SessionKind::Normal { target: names.target.take().ok_or(LoginRefusal::MissingParameter)? }
            }
            Some("Discovery") => SessionKind::Discovery,
            Some(_) => return Err(LoginRefusal::SessionTypeNotSupported),
        };
        self.common.is_discovery = kind == SessionKind::Discovery;
        let target = match &kind {
            SessionKind::Normal { target } => Some(target.clone()),
            SessionKind::Discovery => None,
        };
        let isid = request.header.isid;
        self.common.key = Some(SessionKey { initiator: initiator.clone(), isid, target, portal_group: 0 });
        let initiator_alias = names.initiator_alias.take();
        self.step = Some(Step::Admission(Box::new(request)));
        Ok(Some(Event::Login(Box::new(LoginRequest { initiator, initiator_alias, kind, isid }))))
    }

    /// The node lets the initiator go on.
    pub fn admit(
        &mut self,
        admission: Admission,
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Option<Event>, LoginRefusal> {
        let request = match self.step.take() {
            Some(Step::Admission(request)) => *request,
            other => {
                self.step = other;
                return Ok(None);
            }
        };
        if let Some(key) = &mut self.common.key {
            key.portal_group = admission.portal_group;
        }
        self.common.to_show = Some((admission.portal_group, admission.alias));
        let proof = match admission.auth {
            Auth::None => Proof::Done { may_choose_none: true },
            Auth::Chap(auth) => Proof::Method(auth),
        };
        match (request.header.stage, &proof) {
            (Stage::Security, _) => self.security(proof, request, settings, output),
            (_, Proof::Done { .. }) => self.operational(request, settings, output),
            (_, _) => Err(LoginRefusal::AuthenticationFailed),
        }
    }

    fn security(
        &mut self,
        proof: Proof,
        request: Request,
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Option<Event>, LoginRefusal> {
        let mut reply = TextWriter::default();
        let proof = proof.advance(&request, &mut reply)?;
        let next = request.header.transit.filter(|_| matches!(proof, Proof::Done { .. }));
        if request.header.transit.is_some() && matches!(proof, Proof::Method(_)) {
            return Err(LoginRefusal::AuthenticationFailed); // it would leave without having proved anything
        }
        self.step = Some(match next {
            Some(_) => Step::Operational,
            None => Step::Security(proof),
        });
        self.answer(request, next, reply, settings, output)
    }

    fn operational(
        &mut self,
        request: Request,
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Option<Event>, LoginRefusal> {
        self.step = Some(Step::Operational);
        let next = request.header.transit;
        self.answer(request, next, TextWriter::default(), settings, output)
    }

    /// Answers what the request offers, and goes to the next stage if there is one.
    fn answer(
        &mut self,
        request: Request,
        next: Option<Stage>,
        mut reply: TextWriter,
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Option<Event>, LoginRefusal> {
        self.common.negotiate(&request, &mut reply, settings)?;
        if next != Some(Stage::FullFeature) {
            self.common.reply(&request.header, next, &reply, settings, output);
            return Ok(None);
        }
        negotiate::check_agreed(settings, &self.common.agreed).map_err(refusal_of)?;
        let key = self.common.key.clone().ok_or(LoginRefusal::TargetError)?;
        self.step = Some(Step::Ready(request.header, reply));
        Ok(Some(Event::SessionReady(Box::new(key))))
    }

    /// The node has cleared the way: the last response.
    pub fn start(&mut self, tsih: NonZeroU16, settings: &Settings, output: &mut Output) -> Option<LoggedIn> {
        let (header, reply) = match self.step.take() {
            Some(Step::Ready(header, reply)) => (header, reply),
            other => {
                self.step = other;
                return None;
            }
        };
        let header = pdu::LoginRequest { tsih: tsih.get(), ..header };
        self.common.reply(&header, Some(Stage::FullFeature), &reply, settings, output);
        Some(LoggedIn {
            parameters: self.common.agreed.clone(),
            key: self.common.key.take().expect("kept since the first request"),
            cid: self.common.cid,
            stat_sn: self.common.stat_sn,
            cmd_sn: self.common.cmd_sn,
        })
    }

    /// Says no. Without a request there is nobody to tell.
    pub fn refuse(&self, refusal: &LoginRefusal, settings: &Settings, output: &mut Output) {
        let Some(header) = &self.header else { return };
        let mut text = TextWriter::default();
        if let LoginRefusal::MovedTemporarily(address) | LoginRefusal::MovedPermanently(address) = refusal {
            text.push("TargetAddress", address);
        }
        let response = self.common.response(header, None, status_of(refusal), settings);
        output.push_small(response.emit(), text.as_bytes());
    }
}

impl Common {
    fn negotiate(
        &mut self,
        request: &Request,
        reply: &mut TextWriter,
        settings: &Settings,
    ) -> Result<(), LoginRefusal> {
        if let Some((portal_group, alias)) = self.to_show.take()
            && !self.is_discovery
        {
            // §13.9: in the first response. §13.6.
            reply.push("TargetPortalGroupTag", portal_group);
            if let Some(alias) = alias {
                reply.push("TargetAlias", cut(&alias));
            }
        }
        self.offers.answer(settings, self.is_discovery, &mut self.agreed, reply).map_err(refusal_of)?;
        for key in &request.text.not_understood {
            reply.push(key, "NotUnderstood");
        }
        if request.header.stage == Stage::Operational && !self.has_declared {
            self.has_declared = true;
            self.agreed.receive_segment_bytes_max = settings.receive_segment_bytes_max;
            reply.push("MaxRecvDataSegmentLength", settings.receive_segment_bytes_max);
        }
        Ok(())
    }

    fn reply(
        &mut self,
        header: &pdu::LoginRequest,
        next: Option<Stage>,
        text: &TextWriter,
        settings: &Settings,
        output: &mut Output,
    ) {
        let response = self.response(header, next, [0, 0], settings);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        output.push_small(response.emit(), text.as_bytes());
    }

    fn response(
        &self,
        header: &pdu::LoginRequest,
        next: Option<Stage>,
        status: [u8; 2],
        settings: &Settings,
    ) -> pdu::LoginResponse {
        let max_cmd_sn = self.cmd_sn.wrapping_add(u32::from(settings.window())).wrapping_sub(1);
        pdu::LoginResponse {
            transit: next,
            is_continued: false,
            stage: header.stage,
            isid: header.isid,
            tsih: header.tsih,
            task_tag: header.task_tag,
            numbers: Numbers { stat_sn: self.stat_sn, exp_cmd_sn: self.cmd_sn, max_cmd_sn },
            status,
        }
    }
}

impl Proof {
    fn advance(self, request: &Request, reply: &mut TextWriter) -> Result<Self, LoginRefusal> {
        let methods = request.text.auth_methods.as_deref();
        let offers = |method: &str| methods.is_some_and(|list| list.split(',').any(|name| name == method));
        let failed = |_: ChapError| LoginRefusal::AuthenticationFailed;
        match self {
            Self::Done { may_choose_none: true } if methods.is_some() => {
                if !offers("None") {
                    return Err(LoginRefusal::AuthenticationFailed); // it insists, and we know no secret
                }
                reply.push("AuthMethod", "None");
                Ok(Self::Done { may_choose_none: false })
            }
            Self::Method(auth) if offers("CHAP") => {
                reply.push("AuthMethod", "CHAP");
                Ok(Self::Algorithm(ExpectAlgorithm { auth }))
            }
            Self::Method(_) if methods.is_some() => Err(LoginRefusal::AuthenticationFailed),
            Self::Algorithm(step) => step.handle(&request.text.chap, reply).map(Self::Response).map_err(failed),
            Self::Response(step) => {
                step.handle(&request.text.chap, reply).map_err(failed)?;
                Ok(Self::Done { may_choose_none: false })
            }
            unchanged => Ok(unchanged),
        }
    }
}

fn refusal_of(error: NegotiationError) -> LoginRefusal {
    match error {
        NegotiationError::Digest | NegotiationError::Declaration(_) => LoginRefusal::InitiatorError,
    }
}

/// Status class and detail (RFC 7143 §11.13.5).
fn status_of(refusal: &LoginRefusal) -> [u8; 2] {
    match refusal {
        LoginRefusal::MovedTemporarily(_) => [1, 1],
        LoginRefusal::MovedPermanently(_) => [1, 2],
        LoginRefusal::InitiatorError => [2, 0],
        LoginRefusal::AuthenticationFailed => [2, 1],
        LoginRefusal::NotAllowed => [2, 2],
        LoginRefusal::TargetNotFound => [2, 3],
        LoginRefusal::TargetRemoved => [2, 4],
        LoginRefusal::UnsupportedVersion => [2, 5],
        LoginRefusal::TooManyConnections => [2, 6],
        LoginRefusal::MissingParameter => [2, 7],
        LoginRefusal::CannotIncludeInSession => [2, 8],
        LoginRefusal::SessionTypeNotSupported => [2, 9],
        LoginRefusal::SessionDoesNotExist => [2, 10],
        LoginRefusal::InvalidRequest => [2, 11],
        LoginRefusal::TargetError => [3, 0],
        LoginRefusal::ServiceUnavailable => [3, 1],
        LoginRefusal::OutOfResources => [3, 2],
    }
}

/// At most 255 bytes of an alias, whole characters.
fn cut(alias: &str) -> &str {
    &alias[..alias.floor_char_boundary(255)]
}

impl std::fmt::Display for PortalAddress {
    /// As §13.8 writes it: brackets around IPv6.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.socket {
            core::net::SocketAddr::V4(v4) => write!(f, "{v4}"),
            // Without the zone of a link-local address, which means nothing to the other side.
            core::net::SocketAddr::V6(v6) => write!(f, "[{}]:{}", v6.ip(), v6.port()),
        }
    }
}
