//! CHAP (RFC 1994; RFC 7143 §12.1.3): the initiator proves that it knows a secret, and, if it asks, so do we.
//!
//! ```text
//!  initiator                       target
//!  CHAP_A=7,5                 ->
//!                             <-   CHAP_A=7 CHAP_I=id CHAP_C=challenge
//!  CHAP_N=name CHAP_R=proof   ->   (and CHAP_I, CHAP_C if the target shall prove itself)
//!                             <-   (CHAP_N=name CHAP_R=proof)
//! ```

use md5::Digest as _;
use sha2::Digest as _;
use subtle::ConstantTimeEq;

use crate::event::{ChapAuth, ChapSecret};
use crate::text::{self, TextWriter};

/// Longest challenge (RFC 7143 §12.1.3).
const CHALLENGE_BYTES_MAX: usize = 1024;

/// Longest proof of an algorithm that we know.
const PROOF_BYTES_MAX: usize = 32;

/// A hash that a proof is made with; IANA's PPP authentication algorithm numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Algorithm {
    /// 5, which everyone must know.
    Md5,
    /// 7.
    Sha256,
    /// 8.
    Sha3,
}

impl Algorithm {
    /// The first of the initiator's list that we know: it is in its order of preference (RFC 7143 §12.1.3).
    fn choose(list: &str) -> Option<Self> {
        list.split(',').find_map(|number| match text::number(number) {
            Some(5) => Some(Self::Md5),
            Some(7) => Some(Self::Sha256),
            Some(8) => Some(Self::Sha3),
            _ => None,
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha256 => 7,
            Self::Sha3 => 8,
        }
    }

    /// Hash of identifier, secret and challenge (RFC 1994 §4.1).
    fn proof(self, id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => {
                let hash = md5::Md5::new().chain_update([id]).chain_update(secret).chain_update(challenge);
                hash.finalize().to_vec()
            }
            Self::Sha256 => {
                let hash = sha2::Sha256::new().chain_update([id]).chain_update(secret).chain_update(challenge);
                hash.finalize().to_vec()
            }
            Self::Sha3 => {
                let hash = sha3::Sha3_256::new().chain_update([id]).chain_update(secret).chain_update(challenge);
                hash.finalize().to_vec()
            }
        }
    }
}

/// The keys of CHAP in one request. Values are bounded by the text reader.
#[derive(Debug, Default)]
pub(crate) struct ChapKeys {
    pub algorithms: Option<String>,
    pub name: Option<String>,
    pub response: Option<String>,
    pub identifier: Option<String>,
    pub challenge: Option<String>,
}

impl ChapKeys {
    /// Where a key's value goes; `None` if it is not a key of CHAP.
    pub fn slot(&mut self, key: &str) -> Option<&mut Option<String>> {
        match key {
            "CHAP_A" => Some(&mut self.algorithms),
            "CHAP_N" => Some(&mut self.name),
            "CHAP_R" => Some(&mut self.response),
            "CHAP_I" => Some(&mut self.identifier),
            "CHAP_C" => Some(&mut self.challenge),
            _ => None,
        }
    }
}

/// Why a proof does not count. The host learns only that it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ChapError {
    #[error("the initiator offers no CHAP algorithm that we know")]
    NoAlgorithm,
    #[error("a key of CHAP is missing or has no valid value")]
    Malformed,
    #[error("the CHAP name or proof is wrong")]
    Wrong,
    #[error("the initiator sent our own challenge back")]
    Reflected,
    #[error("the initiator asks for a proof that we cannot give")]
    NoTargetSecret,
}

/// Waits for CHAP_A.
#[derive(Debug)]
pub(crate) struct ExpectAlgorithm {
    pub auth: Box<ChapAuth>,
}

impl ExpectAlgorithm {
    /// Chooses an algorithm and challenges the initiator.
    pub fn handle(self, keys: &ChapKeys, reply: &mut TextWriter) -> Result<ExpectProof, ChapError> {
        let list = keys.algorithms.as_deref().ok_or(ChapError::Malformed)?;
        let algorithm = Algorithm::choose(list).ok_or(ChapError::NoAlgorithm)?;
        let [id, challenge @ ..] = &self.auth.random;
        reply.push("CHAP_A", algorithm.number());
        reply.push("CHAP_I", id);
        reply.push("CHAP_C", text::hex(challenge));
        Ok(ExpectProof { auth: self.auth, algorithm })
    }
}

/// Waits for CHAP_N and CHAP_R.
#[derive(Debug)]
pub(crate) struct ExpectProof {
    auth: Box<ChapAuth>,
    algorithm: Algorithm,
}

impl ExpectProof {
    /// Checks the proof, and gives ours if asked.
    pub fn handle(self, keys: &ChapKeys, reply: &mut TextWriter) -> Result<(), ChapError> {
        let [id, ours @ ..] = &self.auth.random;
        let name = keys.name.as_deref().ok_or(ChapError::Malformed)?;
        let response = keys.response.as_deref().ok_or(ChapError::Malformed)?;
        let response = text::binary(response, PROOF_BYTES_MAX).ok_or(ChapError::Malformed)?;
        let ChapSecret { name: expected_name, secret } = &self.auth.initiator;
        let expected = self.algorithm.proof(*id, secret, ours);
        // Both are compared in any case, so that time tells nothing about which was wrong.
        let is_right = expected.ct_eq(&response) & expected_name.as_bytes().ct_eq(name.as_bytes());
        if !bool::from(is_right) {
            return Err(ChapError::Wrong);
        }
        match (&keys.identifier, &keys.challenge) {
            (None, None) => Ok(()),
            (Some(id), Some(challenge)) => self.prove(id, challenge, reply),
            _ => Err(ChapError::Malformed),
        }
    }

    fn prove(&self, id: &str, challenge: &str, reply: &mut TextWriter) -> Result<(), ChapError> {
        let id = text::number(id).and_then(|id| u8::try_from(id).ok()).ok_or(ChapError::Malformed)?;
        let challenge = text::binary(challenge, CHALLENGE_BYTES_MAX).ok_or(ChapError::Malformed)?;
        let target = self.auth.target.as_ref().ok_or(ChapError::NoTargetSecret)?;
        // §12.1.3: a challenge sent back, or one secret for both directions, would let an initiator use our
        // answer as its own.
        if challenge == self.auth.random[1..] || target.secret == self.auth.initiator.secret {
            return Err(ChapError::Reflected);
        }
        reply.push("CHAP_N", &target.name);
        reply.push("CHAP_R", text::hex(&self.algorithm.proof(id, &target.secret, &challenge)));
        Ok(())
    }
}

/// The CHAP_R that an initiator sends: for tests and load generators.
#[doc(hidden)]
pub fn proof_for_initiator(algorithm: u8, id: u8, secret: &[u8], challenge: &[u8]) -> String {
    let algorithm = Algorithm::choose(&algorithm.to_string()).unwrap_or(Algorithm::Md5);
    text::hex(&algorithm.proof(id, secret, challenge))
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, ChapError, ChapKeys, ExpectAlgorithm, ExpectProof};
    use crate::event::{ChapAuth, ChapSecret};
    use crate::text::{self, TextWriter};

    const RANDOM: [u8; 17] = [9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

    fn secret(name: &str, secret: &[u8]) -> ChapSecret {
        ChapSecret { name: name.to_owned(), secret: secret.to_vec() }
    }

    fn expect_proof(algorithms: &str, target: Option<ChapSecret>) -> Result<ExpectProof, ChapError> {
        let auth = ChapAuth { initiator: secret("host", b"host secret 1"), target, random: RANDOM };
        let keys = ChapKeys { algorithms: Some(algorithms.to_owned()), ..ChapKeys::default() };
        let mut reply = TextWriter::default();
        let next = ExpectAlgorithm { auth: Box::new(auth) }.handle(&keys, &mut reply)?;
        let text = String::from_utf8(reply.into_bytes()).unwrap();
        assert!(text.ends_with("CHAP_I=9\0CHAP_C=0x0102030405060708090a0b0c0d0e0f10\0"), "{text:?}");
        Ok(next)
    }

    fn proof(algorithm: Algorithm, secret: &[u8]) -> ChapKeys {
        let response = text::hex(&algorithm.proof(9, secret, &RANDOM[1..]));
        ChapKeys { name: Some("host".to_owned()), response: Some(response), ..ChapKeys::default() }
    }

    #[test]
    fn the_first_known_algorithm_of_the_list_is_taken() {
        assert_eq!(Algorithm::choose("6,7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("8,7,5"), Some(Algorithm::Sha3));
        assert_eq!(Algorithm::choose("5,8"), Some(Algorithm::Md5), "the initiator's order, not ours");
        assert_eq!(Algorithm::choose("6,9,x,"), None);
        assert_eq!(expect_proof("6", None).unwrap_err(), ChapError::NoAlgorithm);
    }

    #[test]
    fn md5_of_rfc_1321_is_what_is_computed() {
        // "abc" split over identifier, secret and challenge.
        let proof = Algorithm::Md5.proof(b'a', b"b", b"c");
        assert_eq!(text::hex(&proof), "0x900150983cd24fb0d6963f7d28e17f72");
    }

    /// FIPS 180-4 and FIPS 202 examples of "abc".
    #[test]
    fn the_sha_hashes_are_those_of_the_standards() {
        let proof = |algorithm: Algorithm| text::hex(&algorithm.proof(b'a', b"b", b"c"));
        let sha256 = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(proof(Algorithm::Sha256), sha256);
        let sha3 = "0x3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532";
        assert_eq!(proof(Algorithm::Sha3), sha3);
    }

    #[test]
    fn the_right_proof_is_taken_and_a_wrong_one_is_not() {
        for (list, algorithm) in [("5", Algorithm::Md5), ("7", Algorithm::Sha256), ("8", Algorithm::Sha3)] {
            let check = |keys: ChapKeys| expect_proof(list, None).unwrap().handle(&keys, &mut TextWriter::default());
            assert_eq!(check(proof(algorithm, b"host secret 1")), Ok(()));
            assert_eq!(check(proof(algorithm, b"host secret 2")), Err(ChapError::Wrong));
            let other = ChapKeys { name: Some("other".to_owned()), ..proof(algorithm, b"host secret 1") };
            assert_eq!(check(other), Err(ChapError::Wrong));
            assert_eq!(check(ChapKeys::default()), Err(ChapError::Malformed));
        }
    }

    #[test]
    fn the_target_proves_itself_when_asked() {
        let ask = ChapKeys {
            identifier: Some("0x61".to_owned()),
            challenge: Some("0x63".to_owned()),
            ..proof(Algorithm::Md5, b"host secret 1")
        };
        let mut reply = TextWriter::default();
        expect_proof("5", Some(secret("disk", b"b"))).unwrap().handle(&ask, &mut reply).unwrap();
        assert_eq!(reply.as_bytes(), b"CHAP_N=disk\0CHAP_R=0x900150983cd24fb0d6963f7d28e17f72\0");
        let none = expect_proof("5", None).unwrap().handle(&ask, &mut reply);
        assert_eq!(none, Err(ChapError::NoTargetSecret));
    }

    #[test]
    fn our_challenge_sent_back_is_refused() {
        let back = ChapKeys {
            identifier: Some("9".to_owned()),
            challenge: Some(text::hex(&RANDOM[1..])),
            ..proof(Algorithm::Md5, b"host secret 1")
        };
        let next = expect_proof("5", Some(secret("disk", b"target secret"))).unwrap();
        assert_eq!(next.handle(&back, &mut TextWriter::default()), Err(ChapError::Reflected));
    }

    #[test]
    fn one_secret_for_both_directions_is_refused() {
        let ask = ChapKeys {
            identifier: Some("1".to_owned()),
            challenge: Some("0x6364".to_owned()),
            ..proof(Algorithm::Md5, b"host secret 1")
        };
        let next = expect_proof("5", Some(secret("disk", b"host secret 1"))).unwrap();
        assert_eq!(next.handle(&ask, &mut TextWriter::default()), Err(ChapError::Reflected));
    }
}
