# Copyright 2024 The Authors.
package Example::Store;

use strict;
use warnings;
use Carp qw(croak);

our $LIMIT = 10;

=head1 NAME

Example::Store - keeps things by key

=cut

# Opens a store.
sub open {
    my ($class, $path) = @_;
    croak "no path" unless $path;
    my $self = bless { path => $path }, $class;
    $self->_load;
    return $self;
}

sub read {
    my ($self, $key) = @_;
    return $self->{entries}{$key};
}

sub _load {
    my $self = shift;
    open my $file, '<', $self->{path} or die;
    while (my $line = <$file>) {
        chomp $line;
        $self->{entries}{$line} = 1;
    }
}

package Example::Entry {
    sub new {
        my $class = shift;
        return bless {}, $class;
    }
}

1;
