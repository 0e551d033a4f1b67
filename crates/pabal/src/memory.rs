//! The allocator, memory that it has before it needs it, and what becomes of memory that is freed.

use libmimalloc_sys::mi_option_set;
use std::hint::black_box;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of mimalloc's option `purge_delay`, which its bindings do not name (`mimalloc.h` of version 3).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// The value of it that means: never.
const NEVER: std::ffi::c_long = -1;

/// Keeps memory that is freed from now on, for what is needed next, rather than give it back to the system. What was
/// given back comes again page by page, on a virtual machine at half a gigabyte a second, while a bank's clients wait;
/// and a bank needs tomorrow what it needed today. A
/// replay needs at its end what it freed at its beginning.
pub fn keep_what_is_freed() {
    // SAFETY: changes a number that the allocator reads whenever it has freed something.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) }
}

/// Taken at once. Eight of these fit what the allocator gets from the system, 32 MiB, with its own notes beside them; of
/// pieces of 4 MiB seven would, and the rest would stay untouched.
const PIECE_BYTES: usize = (4 << 20) - (64 << 10);
const PAGE_BYTES: usize = 4096;
/// How many pieces are taken before what is available is looked at again.
const LOOK_AGAIN: usize = 32;

/// Takes so many bytes beyond what the process has, and leaves them to the allocator, which must keep what is freed
/// ([`keep_what_is_freed`]). A page that is touched for the first time costs whoever touches it the zeroing of it, and
/// on a virtual machine far more, as its host has to find it: 5 ms for 2 MiB were seen, and hosts take back what lies
/// idle. A bank that is going to grow takes the time before it serves anybody.
///
/// A quarter of what is available at the beginning stays so, as a system that runs out of memory ends processes. Less
/// is taken then; and when `go_on`, which hears how much it is so far, says so. Gives back how much was taken.
pub fn take_ahead(bytes: usize, go_on: &mut dyn FnMut(usize) -> bool) -> usize {
    take_of(&available, bytes, go_on)
}

fn take_of(available: &dyn Fn() -> usize, bytes: usize, go_on: &mut dyn FnMut(usize) -> bool) -> usize {
    let spared = available() / 4;
    let mut pieces = Vec::new();
    while pieces.len() * PIECE_BYTES < bytes && go_on(pieces.len() * PIECE_BYTES) {
        let again = pieces.len() % LOOK_AGAIN == 0;
        let mut piece = Vec::<u8>::new();
        if again && available() < spared + LOOK_AGAIN * PIECE_BYTES
            || piece.try_reserve_exact(PIECE_BYTES).is_err()
        {
            break;
        }
        piece.spare_capacity_mut().iter_mut().step_by(PAGE_BYTES).for_each(|byte| _ = byte.write(1));
        pieces.push(black_box(piece));
    }
    pieces.len() * PIECE_BYTES
}

/// Bytes that this process can have without anybody's being swapped out or ended: what the machine has, and what the
/// control groups leave that it is in. None where the system does not say.
pub fn available() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine =
        machine.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let machine = machine.and_then(|text| text.parse::<usize>().ok()).unwrap_or(0) << 10;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    left_by_groups(Path::new(GROUPS), group).map_or(machine, |left| left.min(machine))
}

/// Where the control groups are, of version 2.
const GROUPS: &str = "/sys/fs/cgroup";

/// What this group and those that it is in leave to it, where any of them has a limit.
fn left_by_groups(root: &Path, group: &str) -> Option<usize> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let inner = root.join(group);
    let groups = inner.ancestors().take_while(|group| group.starts_with(root));
    groups
        .filter_map(|group| Some((number(group.join("memory.max"))?, number(group.join("memory.current"))?)))
        .map(|(most, now)| most.saturating_sub(now))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Says to the test below that it has the process for itself.
    const ALONE: &str = "PABAL_TEST_ALONE";

    /// The number is that of the option, in the version that is built in; what is taken stays, and what is needed next
    /// comes from it. In a process of its own: the option and the memory are the whole process's.
    #[test]
    fn memory_that_was_taken_is_kept_and_used_next() {
        if std::env::var_os(ALONE).is_none() {
            let name = "memory::tests::memory_that_was_taken_is_kept_and_used_next";
            let mut alone = Command::new(std::env::current_exe().expect("this program"));
            let ended =
                alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().expect("it runs");
            let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert!(ended.status.success() && said[0].contains("1 passed"), "{said:?}");
            return;
        }
        // SAFETY: reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!(delay() > 0, "{}", delay());
        keep_what_is_freed();
        assert_eq!(delay(), NEVER);

        let (before, some) = (resident(), 256 << 20);
        let mut heard = 0;
        let taken = take_ahead(some, &mut |so_far| {
            heard = so_far;
            true
        });
        assert!(taken >= some && heard < some, "{taken} {heard}");
        // SAFETY: has it give back what it would give back sooner or later.
        unsafe { libmimalloc_sys::mi_collect(true) };
        let kept = resident();
        assert!(kept >= before + some / 16 * 15, "{before} {kept}");
        let held: Vec<Vec<u8>> = (0..200).map(|_| black_box(vec![1; 1 << 20])).collect();
        let used = resident();
        assert!(used < kept + (16 << 20), "{} MiB were held: {kept} {used}", held.len());
    }

    #[test]
    fn it_ends_where_told_to() {
        let mut asked = 0;
        let taken = take_ahead(9 * PIECE_BYTES, &mut |_| {
            asked += 1;
            asked < 3
        });
        assert_eq!(taken, 2 * PIECE_BYTES);
    }

    /// A quarter of what was there is still there; and where others take it meanwhile, it ends earlier.
    #[test]
    fn a_quarter_is_spared() {
        let all = 8 * LOOK_AGAIN * PIECE_BYTES;
        let taken = std::cell::Cell::new(0);
        let take = |others: usize| {
            taken.set(0);
            take_of(&|| all - others.min(taken.get()) - taken.get(), all, &mut |so_far| {
                taken.set(so_far);
                true
            })
        };
        assert_eq!(take(0), all / 4 * 3);
        assert_eq!(take(all), all / 8 * 3);
    }

    /// A group's limit is also that of those in it; one without a limit has none.
    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let bank = root.path().join("services/bank");
        std::fs::create_dir_all(&bank).expect("folders");
        let write = |group: &Path, most: &str, now: &str| {
            std::fs::write(group.join("memory.max"), most).expect("written");
            std::fs::write(group.join("memory.current"), now).expect("written");
        };
        let left = || left_by_groups(root.path(), "services/bank");
        assert_eq!(left(), None);
        write(&bank, "max\n", "10\n");
        assert_eq!(left(), None);
        write(&root.path().join("services"), "1000\n", "400\n");
        assert_eq!(left(), Some(600));
        write(&bank, "500\n", "10\n");
        assert_eq!(left(), Some(490));
        write(&bank, "500\n", "501\n");
        assert_eq!(left(), Some(0));
    }
}
