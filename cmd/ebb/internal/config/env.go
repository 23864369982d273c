package config

import (
	"fmt"
	"strings"
)

// expand replaces references to the environment in a scalar: ${NAME}, and ${NAME:-default} for a variable that is not set
// or empty. $${ stands for a plain ${. A lone dollar sign is left alone, since passwords have them.
func expand(s string, env func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i] + "{")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("%q has ${ without }; close it, or write $${ for a plain ${", s[i:])
		}
		v, err := lookup(s[i+2:i+end], env)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
		s = s[i+end+1:]
	}
}

func lookup(ref string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(ref, ":-")
	if !isVariable(name) {
		return "", fmt.Errorf("${%s} is not a reference to the environment; write ${NAME} or ${NAME:-default}", ref)
	}
	v, set := env(name)
	switch {
	case hasFallback && v == "":
		return fallback, nil
	case !set:
		return "", fmt.Errorf("environment variable %s is not set; set it, or give a default: ${%s:-value}", name, name)
	}
	return v, nil
}

func isVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
