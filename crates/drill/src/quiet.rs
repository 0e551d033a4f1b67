//! Panics of a bank that is drilled are no news to the terminal: they are kept for whoever catches them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How the threads of an engine are named.
const ENGINE: &str = "pabal-";
/// How many want the engines' threads to be quiet.
static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

fn hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_engine = || std::thread::current().name().is_some_and(|name| name.starts_with(ENGINE));
            let quiet = QUIET.get() || EVERYWHERE.load(Ordering::SeqCst) > 0 && is_engine();
            if !quiet {
                return before(info);
            }
            let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
            PLACE.set(place.unwrap_or_default());
        }));
    });
}

/// From now on this thread's panics say nothing; where they came from is kept.
pub fn begin() {
    hook();
    QUIET.set(true);
}

/// The same as long as this is done.
pub fn during<T>(act: impl FnOnce() -> T) -> T {
    hook();
    let before = QUIET.replace(true);
    let done = act();
    QUIET.set(before);
    done
}

/// As long as this is there, the threads of engines are quiet too.
pub struct Everywhere(());

impl Everywhere {
    pub fn begin() -> Everywhere {
        hook();
        EVERYWHERE.fetch_add(1, Ordering::SeqCst);
        Everywhere(())
    }
}

impl Drop for Everywhere {
    fn drop(&mut self) {
        EVERYWHERE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a panic said, and where.
pub fn said(thrown: &(dyn Any + Send)) -> String {
    let text = thrown.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| thrown.downcast_ref::<&str>().copied()).unwrap_or("nothing");
    PLACE.with_borrow(|place| format!("{text} ({place})"))
}
