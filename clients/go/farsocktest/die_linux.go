package farsocktest

import "syscall"

// dieWithParent ends an agent whose test program was killed. The signal comes when the thread ends that has started it, which Go keeps.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
