//! Whole clusters, simulated: fresh seeds in every run of the tests, runs that once broke a rule, and proof that a seed
//! means the same in every process.

mod found;
mod fresh;
mod full;
mod same;
