/*
 * The kernel tells process events to its first network namespace only. Preloaded into a daemon that runs in another one,
 * this opens that one socket of it where the events are, and no other.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int socket(int domain, int type, int protocol)
{
	const char *machine = getenv("MACHINE_NETNS");
	int here, there, made;

	if (domain != AF_NETLINK || protocol != NETLINK_CONNECTOR || !machine)
		return syscall(SYS_socket, domain, type, protocol);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(machine, O_RDONLY | O_CLOEXEC);
	if (here < 0 || there < 0 || setns(there, CLONE_NEWNET))
		abort();
	made = syscall(SYS_socket, domain, type, protocol);
	if (setns(here, CLONE_NEWNET))
		abort();
	close(here);
	close(there);
	return made;
}
