//! The program as people and programs see it.

mod common;
mod people;
mod programs;
