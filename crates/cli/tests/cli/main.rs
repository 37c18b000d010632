//! The program as people and programs see it.

mod arbiter;
mod common;
mod joining;
#[path = "../../../store/tests/conformance/members.rs"]
#[allow(dead_code, reason = "shared with the tests of the config stores")]
mod members;
mod people;
mod programs;
mod quickstart;
#[path = "../../../store/tests/conformance/records.rs"]
#[allow(dead_code, reason = "shared with the tests of the config stores")]
mod records;
mod running;
mod serve;
