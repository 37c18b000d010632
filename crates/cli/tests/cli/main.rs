//! The program as people and programs see it.

mod arbiter;
mod common;
mod people;
mod programs;
mod quickstart;
mod running;
mod serve;
