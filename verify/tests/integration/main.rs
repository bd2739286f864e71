//! `imgnode` on this machine: real schroot, real mounts, real servers.

mod binary;
mod bucket;
mod full;
mod generations;
mod handover;
mod interop;
mod killed;
mod local_changes;
mod needs;
mod node;
mod processes;
mod receipts;
mod service;
mod sessions;
mod support;
mod targets;
mod timers;
mod waves;
mod web;
