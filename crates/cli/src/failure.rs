//! How a command ends when it does not end well: one sentence that says what failed, one that says what to do, and an
//! exit status for programs.

use std::fmt::Display;
use std::process::ExitCode;

use dyad_api::Problem;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The node refused or failed the request.
    Refused(Problem),
    /// No node could be reached.
    Unreachable {
        /// What failed.
        what: String,
        /// What to do.
        advice: String,
    },
    /// The command line or a file asks for something impossible.
    Usage(String),
    /// Something on this side failed.
    Failed {
        /// What failed.
        what: String,
        /// What to do; may be empty.
        advice: String,
    },
    /// `status --check` found something; it was printed already.
    NotRedundant,
}

impl Failure {
    /// Something on this side failed.
    pub fn failed(what: impl Display, advice: impl Display) -> Self {
        Self::Failed { what: what.to_string(), advice: advice.to_string() }
    }

    /// Prints what is to be said, to the standard error, and gives the exit status.
    pub fn report(self, json: bool) -> ExitCode {
        match (&self, self.told()) {
            (Self::Refused(problem), _) if json => {
                eprintln!("{}", serde_json::to_string_pretty(problem).unwrap_or_default());
            }
            (_, Some((kind, detail, advice))) if json => {
                let kind = format!("urn:dyad:problem:{kind}");
                let told = serde_json::json!({ "type": kind, "detail": detail, "advice": advice });
                eprintln!("{told:#}");
            }
            (_, Some((_, what, advice))) => complain(what, advice),
            (_, None) => {}
        }
        ExitCode::from(self.code())
    }

    /// For programs what kind it is, what failed, and what to do.
    fn told(&self) -> Option<(&'static str, &str, &str)> {
        match self {
            Self::Refused(Problem { detail, advice, .. }) => Some(("refused", detail, advice)),
            Self::Unreachable { what, advice } => Some(("unreachable", what, advice)),
            Self::Failed { what, advice } => Some(("failed", what, advice)),
            Self::Usage(what) => Some(("usage", what, "")),
            Self::NotRedundant => None,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Refused(problem) if problem.is("not-found") => 4,
            Self::Refused(_) | Self::Failed { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::NotRedundant => 5,
        }
    }
}

fn complain(what: &str, advice: &str) {
    eprintln!("dyad: {what}");
    if !advice.is_empty() {
        eprintln!("      {advice}");
    }
}
