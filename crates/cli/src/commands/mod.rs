//! What the commands do that ask a running node. One file per kind of object.

mod ask;
mod hosts;
mod images;
mod nodes;
mod pools;
mod sessions;
mod volumes;

use dyad_api::model::{List, Node, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{Cli, Command, DiskCommand, NodeCommand, StatusArgs};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::status::{self, Screen};
use crate::table::{self, Columns};

/// What a command works with.
pub struct Session {
    client: Client,
    json: bool,
}

/// Carries out a command that asks a node.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let at = Session { client: Client::new(&cli.reach)?, json: cli.json };
    match cli.command {
        Command::Status(args) => at.status(&args),
        Command::Pool(command) => pools::run(&at, command),
        Command::Disk(DiskCommand::List) => pools::list_disks(&at),
        Command::Disk(DiskCommand::Show { disk }) => pools::show_disk(&at, &disk),
        Command::Volume(command) => volumes::run(&at, command),
        Command::Image(command) => images::run(&at, command),
        Command::Session(command) => sessions::run(&at, command),
        Command::Node(NodeCommand::List) => sessions::list_nodes(&at),
        Command::Node(NodeCommand::Show { name }) => at.node(name.as_deref()),
        Command::Node(NodeCommand::Token) => nodes::token(&at),
        Command::Node(NodeCommand::Drain { name, undo }) => nodes::drain(&at, &name, undo),
        Command::Node(NodeCommand::Remove { name }) => nodes::remove(&at, &name),
        Command::Node(NodeCommand::Join(_))
        | Command::Cluster(_)
        | Command::Serve(_)
        | Command::Arbiter(_)
        | Command::Quickstart(_)
        | Command::Config(_)
        | Command::Token
        | Command::Openapi
        | Command::Completions { .. } => unreachable!("carried out without a node"),
    }
}

impl Session {
    fn status(&self, args: &StatusArgs) -> Result<(), Failure> {
        let now: Status = self.client.get("/v1/status")?;
        if self.json {
            print_json(&now);
        } else {
            table::print(&status::render(&now, screen()));
        }
        if args.check && !status::is_calm(&now) { Err(Failure::NotRedundant) } else { Ok(()) }
    }

    fn node(&self, name: Option<&str>) -> Result<(), Failure> {
        match name {
            Some(name) => self.show(&format!("/v1/nodes/{}", escape(name)), |node: &Node| sessions::node_told(node)),
            None => {
                let nodes: List<Node> = self.client.get("/v1/nodes")?;
                let first = nodes.items.first();
                let first = first.ok_or_else(|| Failure::failed("the node does not know itself", "report it"))?;
                self.tell(first, sessions::node_told);
                Ok(())
            }
        }
    }

    /// Lists what is at `path`, one row each.
    fn list<T, const N: usize>(
        &self,
        path: &str,
        heads: [&str; N],
        row: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure>
    where
        T: DeserializeOwned + Serialize,
    {
        let list: List<T> = self.client.get(path)?;
        if self.json {
            print_json(&list.items);
        } else {
            let mut columns = Columns::new(&heads);
            list.items.iter().for_each(|item| columns.row(row(item)));
            table::print(&columns.finish());
        }
        Ok(())
    }

    /// Shows what is at `path`.
    fn show<T: DeserializeOwned + Serialize>(&self, path: &str, told: impl Fn(&T) -> String) -> Result<(), Failure> {
        let item: T = self.client.get(path)?;
        self.tell(&item, told);
        Ok(())
    }

    fn tell<T: Serialize>(&self, item: &T, told: impl Fn(&T) -> String) {
        if self.json { print_json(item) } else { table::print(&told(item)) }
    }

    /// Says that something was done; programs see it by the exit status.
    fn done(&self, what: &str) {
        if !self.json {
            table::print(&format!("{what}\n"));
        }
    }
}

fn print_json(value: &impl Serialize) {
    // Plain data always becomes JSON.
    table::print(&(serde_json::to_string_pretty(value).unwrap_or_default() + "\n"));
}

/// Names and values, one pair per line; pairs without value are left out.
fn pairs_told(pairs: &[(&str, String)]) -> String {
    let mut columns = Columns::pairs();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        columns.row([(*name).to_owned(), value.clone()]);
    }
    columns.finish()
}

/// The terminal's size, if there is a terminal.
pub fn screen() -> Screen {
    use rustix::termios::{isatty, tcgetwinsize};
    let out = rustix::stdio::stdout();
    match tcgetwinsize(out) {
        Ok(size) if isatty(out) && size.ws_row > 0 && size.ws_col > 0 => {
            Screen { rows: size.ws_row.into(), columns: size.ws_col.into() }
        }
        _ => Screen::NONE,
    }
}
