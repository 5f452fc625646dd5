/*
 * Preloaded into a process that has a store in a file. It logs, in their order, all writes to the database and its
 * write-ahead log, with those to the standard output, and fails syncs when it is asked to:
 *
 * KUMA_TEST_WRITES      the file for the log; a record is an operation, a file, an offset, a length and as many bytes
 * KUMA_TEST_SYNCS_FAIL  while a file of this name exists, syncs fail with EIO
 * KUMA_TEST_FAIL_EVERY  of this many syncs the last three fail with EIO
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -1;
static long fail_every, syncs;
static const char *fail_while;

__attribute__((constructor)) static void start(void) {
  const char *log = getenv("KUMA_TEST_WRITES"), *every = getenv("KUMA_TEST_FAIL_EVERY");
  if (log) log_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (every) fail_every = atol(every);
  fail_while = getenv("KUMA_TEST_SYNCS_FAIL");
}

static char kind_of_name(const char *path) {
  const char *name = strrchr(path, '/');
  name = name ? name + 1 : path;
  if (!strcmp(name, "store.db")) return 'd';
  if (!strcmp(name, "store.db-wal")) return 'w';
  return 0;
}

static char kind_of(int file) {
  char link[32], path[4096];
  if (file == 1) return 'o';
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return kind_of_name(path);
}

static void note(char operation, char kind, uint64_t offset, const void *bytes, uint32_t length) {
  char head[14] = {operation, kind};
  memcpy(head + 2, &offset, 8);
  memcpy(head + 10, &length, 4);
  if (log_file < 0) return;
  if (syscall(SYS_write, log_file, head, sizeof head) != sizeof head) abort();
  if (bytes && syscall(SYS_write, log_file, bytes, length) != (ssize_t)length) abort();
}

ssize_t write(int file, const void *bytes, size_t length) {
  char kind = kind_of(file);
  if (!kind) return syscall(SYS_write, file, bytes, length);
  pthread_mutex_lock(&lock);
  off_t offset = kind == 'o' ? 0 : lseek(file, 0, SEEK_CUR);
  ssize_t done = syscall(SYS_write, file, bytes, length);
  if (done > 0) note('W', kind, offset, bytes, done);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
  char kind = kind_of(file);
  if (!kind) return syscall(SYS_pwrite64, file, bytes, length, offset);
  pthread_mutex_lock(&lock);
  ssize_t done = syscall(SYS_pwrite64, file, bytes, length, offset);
  if (done > 0) note('W', kind, offset, bytes, done);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

int ftruncate64(int file, off64_t length) {
  char kind = kind_of(file);
  pthread_mutex_lock(&lock);
  int done = syscall(SYS_ftruncate, file, length);
  if (!done && kind) note('T', kind, length, NULL, 0);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

int unlink(const char *path) {
  char kind = kind_of_name(path);
  pthread_mutex_lock(&lock);
  int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (!done && kind) note('U', kind, 0, NULL, 0);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

int fsync(int file) {
  char kind = kind_of(file);
  if (kind != 'd' && kind != 'w') return syscall(SYS_fsync, file);
  pthread_mutex_lock(&lock);
  syncs++;
  int fails = (fail_every && syncs % fail_every >= fail_every - 3) || (fail_while && !access(fail_while, F_OK));
  /* Nothing is synced in earnest: whoever reads the log decides what was. */
  note(fails ? 'F' : 'S', kind, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = EIO;
  return fails ? -1 : 0;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
  return pwrite64(file, bytes, length, offset);
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

int fdatasync(int file) { return fsync(file); }
