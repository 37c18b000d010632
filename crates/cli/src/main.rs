//! `dyad`
mod config;
fn main() {
    let _ = (config::example(), config::reference(), config::Config::load("x".as_ref()));
}
