// What ThreadSanitizer has to know in every program of the build; linked into each where JOBC_SANITIZE is `thread`.

/// Tests fork a jobc that is to die, and it starts threads of its own.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

/// libuv closes descriptors by a bare system call, which the sanitizer does not see: it takes the next file with that number
/// for the same one, and its use by another thread for a race. So what libuv made is left out: these functions only make descriptors.
extern "C" const char* __tsan_default_suppressions() {
  return "race:^uv__epoll_init$\n"
         "race:^uv_async_init$\n"
         "race:^uv__async_start$\n"
         "race:^uv_pipe$\n"
         "race:^uv__socket$\n"
         "race:^uv_socketpair$\n"
         "race:^uv__open_cloexec$\n";
}
