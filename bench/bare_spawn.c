/* The least that starting programs can cost: a posix_spawn() and wait() loop that keeps PARALLEL copies of /bin/true
   running until JOBS have ended. Nothing is captured, recorded, limited or cleaned up.
     bare_spawn JOBS PARALLEL */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char** environ;

int main(int argc, char** argv) {
  const int jobs = argc > 1 ? atoi(argv[1]) : 5000;
  const int parallel = argc > 2 ? atoi(argv[2]) : 2;
  char program[] = "/bin/true";
  char* command[] = {program, NULL};
  for (int started = 0, running = 0; started < jobs || running > 0;) {
    if (started < jobs && running < parallel) {
      pid_t pid = 0;
      if (posix_spawn(&pid, program, NULL, NULL, command, environ) != 0) {
        perror(program);
        return 1;
      }
      ++started;
      ++running;
    } else {
      int status = 0;
      if (wait(&status) < 0 || status != 0) {
        fprintf(stderr, "%s failed\n", program);
        return 1;
      }
      --running;
    }
  }
  return 0;
}
