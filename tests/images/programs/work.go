// SPDX-License-Identifier: Apache-2.0
// Goroutines, channels, maps, garbage and big numbers; what it prints does not depend on timing.
package main

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

type node struct {
	left, right *node
	value       int
}

func grow(depth int) *node {
	if depth == 0 {
		return &node{value: 1}
	}
	return &node{grow(depth - 1), grow(depth - 1), depth}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

func pipeline() int {
	numbers, squares := make(chan int), make(chan int, 8)
	var workers sync.WaitGroup
	go func() {
		for i := 0; i < 20000; i++ {
			numbers <- i
		}
		close(numbers)
	}()
	for w := 0; w < 8; w++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := range numbers {
				squares <- n * n % 1009
			}
		}()
	}
	go func() { workers.Wait(); close(squares) }()
	total := 0
	for s := range squares {
		total += s
	}
	return total
}

func garbage() (trees int, collections bool) {
	for i := 0; i < 60; i++ {
		trees += grow(12).sum()
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return trees, m.NumGC > 1
}

func counters() (int64, int) {
	var n int64
	var lock sync.Mutex
	words := map[string]int{}
	var all sync.WaitGroup
	for g := 0; g < 50; g++ {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 400; i++ {
				atomic.AddInt64(&n, int64(i))
				lock.Lock()
				words[strings.Repeat("x", (g*i)%17)]++
				lock.Unlock()
				if i%100 == 0 {
					runtime.Gosched()
				}
			}
		}(g)
	}
	all.Wait()
	return n, len(words)
}

func recovered() (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	var p *node
	return fmt.Sprint(p.value)
}

func main() {
	fmt.Println("pipeline", pipeline())
	fmt.Println(garbage())
	fmt.Println(counters())
	fmt.Println(recovered())
	f := new(big.Int).MulRange(1, 2000)
	fmt.Printf("%x\n", sha256.Sum256(f.Bytes()))
	x := 0.0
	for i := 1; i < 100000; i++ {
		x += math.Sin(float64(i)) * math.Sqrt(float64(i)) / math.Log(float64(i)+1)
	}
	fmt.Printf("%.9f\n", x)
	s := make([]int, 50000)
	for i := range s {
		s[i] = (i * 7919) % 50021
	}
	sort.Ints(s)
	fmt.Println(s[0], s[25000], s[49999])
}
