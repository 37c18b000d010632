//! The program as people and programs see it.

mod common;
mod people;
mod programs;
mod quickstart;
mod running;
mod serve;
