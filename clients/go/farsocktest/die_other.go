//go:build !linux

package farsocktest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
