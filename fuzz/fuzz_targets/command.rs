//! Any bytes as a command, as a request's commands, and as the entry that a repeated command is held against.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_bank::command;
use pabal_bank::ledger::Command;
use pabal_core::BankMachine;
use pabal_engine::Machine;
use pabal_fuzz::input::Aligned;
use pabal_fuzz::seeds;
use pabal_journal::{ENTRY_UNITS_MAX, Position};
use zerocopy::FromBytes;

fuzz_target!(init: seeds::plant("command"), |data: &[u8]| {
    look(data);
    // A request's commands, one after the other.
    let aligned = Aligned::of(data);
    let mut rest = aligned.bytes();
    while let Some((command, after)) = BankMachine::length(rest).and_then(|l| rest.split_at_checked(l)) {
        look(command);
        let _ = BankMachine::linked(command);
        // It was decided in this very entry, or in another.
        let _ = BankMachine::again(command, data, Position(1));
        let _ = BankMachine::again(command, after, Position(1));
        rest = after;
    }
});

fn look(bytes: &[u8]) {
    let _ = command::length(bytes);
    if let Some(record) = command::record_of(bytes) {
        assert!(record.len() <= bytes.len());
    }
    let _ = BankMachine::units_max(bytes);
    if let Ok((op, command)) = command::read(bytes) {
        assert_eq!(command::length(bytes), Some(bytes.len()), "{op:?}");
        let units = command::entry_units_max(command);
        assert!(units > 0, "{op:?}");
        if command::record_of(bytes).is_some() {
            assert!(units <= ENTRY_UNITS_MAX, "a kept record fits a block");
        }
    }
    if let Ok((command, _)) = Command::read_from_prefix(bytes) {
        let _ = command::entry_units_max(&command);
    }
}
