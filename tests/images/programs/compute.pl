# SPDX-License-Identifier: Apache-2.0
use strict; use warnings;
use Digest::MD5 qw(md5_hex); use Digest::SHA qw(sha256_hex); use List::Util qw(sum reduce);
use Math::BigInt; use POSIX qw(floor fmod strtod); use Encode qw(encode decode); use Storable qw(freeze thaw);
my $text = join ' ', map { ($_ * 7919) % 10007 } 1 .. 5000;
print md5_hex($text), ' ', sha256_hex($text), "\n";
my %seen; $seen{$1}++ while $text =~ /(\d)(?=\d\b)/g;
print join(',', map { "$_=$seen{$_}" } sort keys %seen), "\n";
(my $swapped = $text) =~ s/(\d+) (\d+)/$2-$1/g;
print substr($swapped, 0, 60), "\n";
printf "%.17g %.17g %e %a %s\n", sqrt(2)**3, atan2(1, 2) * exp(1), 1.5e-310, 0.1, 1e21 / 7;
printf "%s %s %s\n", 9**20, -7 % 3, fmod(10.5, 3);
printf "%d %s %s\n", floor(-2.5), 0xffffffffffffffff, 18446744073709551615 + 1;
print Math::BigInt->new(3)->bpow(500)->bmod('1000000000000000000000007'), "\n";
print unpack('H*', pack('w/a N n! d< f> q', 'abc', 1 << 31, -2, 3.14159, 2.5, -9)), "\n";
print unpack('H*', encode('UTF-16BE', decode('UTF-8', "\xc3\xa9\xf0\x9f\x98\x80"))), "\n";
print join(',', @{ thaw(freeze([map { $_ / 3 } 1 .. 4])) }), "\n";
print sum(map { ord } sort { $b cmp $a } split //, $text), "\n";
my $pid = open(my $child, '-|') // die; # fork, and a pipe
if (!$pid) { print "from the child\n"; exit 5 }
print <$child>; close $child; print $? >> 8, "\n";
local $SIG{ALRM} = sub { die "alarm\n" };
eval { alarm 1; select undef, undef, undef, 30; }; print "caught $@";
warn "on stderr\n"; exit 3;
