//! The commands, each in a file of its own: arguments in, one call of a library, a result to be printed.

mod artifact;
pub(crate) mod auth;
pub(crate) mod completions;
pub(crate) mod df;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod mount;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod referrers;
pub(crate) mod resolve;
pub(crate) mod rm;
pub(crate) mod tags;
pub(crate) mod unpack;
pub(crate) mod verify;
