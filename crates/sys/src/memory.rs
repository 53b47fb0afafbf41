//! When the allocator gives memory back, and how much it asks for.

/// From how many bytes on a piece of memory goes back to the system as soon as it is freed: larger than the buffers that come and
/// go all the time, each of which would be filled with zeros by the kernel again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1024 * 1024;

/// How much a thread keeps of what it has freed last: about what one download has in flight.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1024 * 1024;

/// How much is asked of the system at once: as much as a short command needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const STEP: i32 = 512 * 1024;

/// Lets large pieces of memory, of 1 MiB and more, go back to the system as soon as they are freed, from now on and in the whole
/// process. A program calls it once, before it starts threads.
///
/// glibc begins with 128 KiB. But with each larger piece that is freed it raises the size to that piece's, up to 32 MiB, and from
/// then on keeps what a thread has freed for that thread: a pull of twenty layers with windows of 8 MiB, never more than
/// two at a time, came to 110 MiB. With other C libraries this does nothing.
pub fn give_large_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #![expect(unsafe_code, reason = "there is no safe interface to the allocator's settings")]
        let settings = [
            (nix::libc::M_MMAP_THRESHOLD, LARGE),
            (nix::libc::M_TRIM_THRESHOLD, KEPT),
            (nix::libc::M_TOP_PAD, STEP),
        ];
        for (setting, bytes) in settings {
            // SAFETY: it takes two numbers, and locks what it changes.
            let accepted = unsafe { nix::libc::mallopt(setting, bytes) };
            debug_assert_eq!(accepted, 1, "a size that every glibc accepts");
        }
    }
}
