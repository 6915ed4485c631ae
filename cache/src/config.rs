//! Flags and environment. No other module reads either.
//!
//! One way: `args` holds the raw flags; `check` refuses what contradicts itself, with the flag's name and the way out,
//! and makes [`Config`] of the rest: the settings of each module, ready to be handed to it. The check is pure: what it
//! needs to know of the machine comes in as [`Environment`].

use std::ffi::OsString;

use clap::FromArgMatches;

pub use self::args::{Args, CommandArgs, DevArgs, DiscoveryApi, LogFormat, S3Auth, ServeArgs};
pub use self::environment::Environment;
pub use self::error::Error;
use self::error::refused;
pub use self::resolved::{Config, Discovery, LogConfig, NetworkConfig, RingConfig};

mod args;
mod cgroup;
mod check;
mod environment;
mod error;
mod given;
mod memory;
mod network;
mod resolved;
mod ring;

/// What the binary was asked to do.
#[derive(Debug)]
pub enum Command {
    /// Run a node.
    Serve(Box<Config>),
    /// Run a ring with an S3 of its own on this machine.
    Dev(DevArgs),
}

impl Command {
    /// What this command line asks for, here; its first word is the program's name.
    pub fn from_args(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        Args::read(argv)?.into_command(&Environment::read())
    }
}

impl Config {
    /// As [`Command::from_args`], for a command line that is known to run a node.
    pub fn from_args(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        Args::read(argv)?.into_config(&Environment::read())
    }
}

impl Args {
    /// The command line as given; the first Falcon's single dash works too.
    pub fn read(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        let matches = args::command().try_get_matches_from(args::two_dashes(argv))?;
        Ok(Self::from_arg_matches(&matches)?)
    }

    /// The command that these flags mean in this environment.
    pub fn into_command(self, env: &Environment) -> Result<Command, Error> {
        let serve = match self.command {
            Some(CommandArgs::Dev(dev)) => {
                if dev.port.checked_add(dev.nodes).is_none() {
                    return Err(refused(format!(
                        "--port must leave room for the other nodes' ports; got {} with --nodes {}. Use a lower one",
                        dev.port, dev.nodes
                    )));
                }
                return Ok(Command::Dev(dev));
            }
            Some(CommandArgs::Serve(serve)) => serve,
            None => self.serve,
        };
        Ok(Command::Serve(Box::new(check::config(serve, env)?)))
    }

    /// The node that these flags mean in this environment.
    pub fn into_config(self, env: &Environment) -> Result<Config, Error> {
        match self.into_command(env)? {
            Command::Serve(config) => Ok(*config),
            Command::Dev(_) => Err(refused("this command line runs dev, and not a node")),
        }
    }
}

#[cfg(test)]
mod tests;
